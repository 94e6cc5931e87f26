"""A slow oracle: the same decisions with neither state, nor chunks, nor slots.

Every token recomputes the whole sequence. What a propagation does to the deeper layers becomes a statement about
hidden states: under `project` a token that left keeps its exit's hidden state from there on (own norm and weights
of every deeper layer read it); under `defer` and `verify` deeper layers see what they would have seen anyway.
`skip` and the copies have no such form; the float64 specification of the tests covers them.

Shapes: T tokens so far, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from offramp.engine.reply import Choice
from offramp.engine.request import Request
from offramp.engine.sampler import choose
from offramp.errors import UsageError
from offramp.exits.base import Exit
from offramp.models.base import Model
from offramp.policies.base import ExitPolicy, Memory, Signal
from offramp.registry import find


@torch.inference_mode()
def reference(model: Model, exits: Iterable[Exit], request: Request) -> list[tuple[int, int]]:
    """(token, depth) of each generated token; only EOS and max_tokens end it.

    Raises UsageError for a propagation that has no stateless form.
    """
    known = ("verify", "defer", "project")
    if request.propagation not in known:
        raise UsageError(f"the reference knows {', '.join(known)}; {request.propagation} needs a state.")
    lossy = request.propagation != "verify"
    walker = _Walker(model, exits if lossy else (), request)
    while not walker.done():
        walker.step()
    return walker.said


class _Walker:
    """left[t]: the exit at which token t left, None if it reached the end. run: tokens that left since one did."""

    def __init__(self, model: Model, exits: Iterable[Exit], request: Request) -> None:
        self.model, self.exits, self.request = model, tuple(exits), request
        thresholds = request.thresholds * (len(self.exits) if len(request.thresholds) == 1 else 1)
        self.policy = find("offramp.policies", request.policy, ExitPolicy)(thresholds)
        self.memory: Memory = self.policy.init_state()
        self.tokens = list(request.prompt)
        self.left: list[int | None] = [None] * len(self.tokens)
        self.said: list[tuple[int, int]] = []
        self.run = 0

    def done(self) -> bool:
        over = len(self.said) >= self.request.max_tokens
        return over or bool(self.said) and self.said[-1][0] in self.model.config.eos_token_ids

    def step(self) -> None:
        """Choose the next token from the newest one, and note where it left."""
        decides = bool(self.said)  # a prompt's last token always goes all the way
        hidden = self._hidden()
        for s in range(len(self.exits) if decides else 0):
            choice = self._consider(s, hidden)
            if choice is not None:
                self.run += 1
                self._say(choice, exit=s)
                return
        self.run = 0
        self._say(choose(self.model.logits(hidden[-1])[0, -1], self.tokens, self.request.sampling), exit=None)

    def _say(self, choice: Choice, exit: int | None) -> None:
        self.left[-1] = exit
        depth = len(self.model.blocks) if exit is None else self.exits[exit].after
        self.said.append((choice.token, depth))
        self.tokens.append(choice.token)
        self.left.append(None)

    def _hidden(self) -> list[Tensor]:
        """The residual stream `[1, T, D]` after 0..L blocks; frozen where a token left, if `project` says so."""
        x_1TD = self.model.embed(torch.tensor([self.tokens]))
        states = [x_1TD]
        for i, block in enumerate(self.model.blocks):
            x_1TD = torch.where(self._frozen(i), x_1TD, block(x_1TD))
            states.append(x_1TD)
        return states

    def _frozen(self, block: int) -> Tensor:
        project = self.request.propagation == "project"
        gone = [project and e is not None and self.exits[e].after <= block for e in self.left]
        return torch.tensor(gone)[None, :, None]

    def _consider(self, s: int, hidden: list[Tensor]) -> Choice | None:
        exit = self.exits[s]
        gate_RT, bridged_RTD = exit(hidden[exit.after])
        gate_R = gate_RT[:, -1].float().sigmoid()
        logits_RV = self._bridge(exit, hidden, bridged_RTD)
        may_leave = self.run < self.request.run_max
        signal = Signal(
            exit=s,
            depth=exit.after,
            blocks=len(self.model.blocks),
            gate_R=gate_R,
            entering_RD=hidden[self.exits[s - 1].after if s else 0][:, -1],
            leaving_RD=hidden[exit.after][:, -1],
            index=[len(self.said)],
            max_tokens=[self.request.max_tokens],
            may_leave=[may_leave],
            logits_RV=logits_RV,
        )
        leave_R, [self.memory] = self.policy(signal, [self.memory])
        if not bool(leave_R[0]) or not may_leave:
            return None
        return choose(logits_RV[0], self.tokens, self.request.sampling)

    def _bridge(self, exit: Exit, hidden: list[Tensor], bridged_RTD: Tensor) -> Tensor:
        """The bridge's logits `[1, V]`. The last block's tail: tokens still pending stand there as they left."""
        if not exit.bridge.borrows_last_block:
            return self.model.logits(bridged_RTD[:, -1])
        inputs_1TD = hidden[-2].clone()
        for t in range(len(self.tokens) - 1 - self.run, len(self.tokens)):
            e = self.left[t]
            after = (
                exit.after if t == len(self.tokens) - 1 else self.exits[e].after if e is not None else None
            )
            if after is not None:
                inputs_1TD[:, t] = hidden[after][:, t]
        return self.model.logits(self.model.blocks[-1](inputs_1TD)[:, -1])
