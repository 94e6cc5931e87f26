"""A row and its frontiers: the engine's semantics (design 1), one row and one segment at a time.

`frontier[s]` tokens are settled in segment s; the hidden states of the tokens between frontier[s] and
frontier[s-1] wait in ring[s]. The schedule calls `visit` and `drain`: it decides when, the row decides what.
"""

from itertools import zip_longest

import torch
from torch import Tensor

from .mixers import Storage, fresh
from .model import Model, Passed
from .policies import Signal
from .propagation import PROPAGATIONS, Propagation
from .request import RUN_LIMIT, Emitted, Request, Stats
from .sampling import choose

PROMPT = -1
"""The station of a row whose prompt has not been taken in yet; other stations are segments."""


class Row:
    def __init__(
        self,
        model: Model,
        request: Request,
        storage: Storage = fresh,
        propagations: dict[str, Propagation] = PROPAGATIONS,
    ) -> None:
        self.model, self.request = model, request
        self.propagation = propagations[request.propagation]
        self.states = model.new_states(storage, request.context)
        self.tokens = list(request.prompt)  # committed, then drafts
        self.frontier = [0] * len(model.segments)
        self.ring: list[list[tuple[int, Tensor]]] = [[] for _ in model.segments]
        self.station = PROMPT
        self.run = 0  # tokens that left since the last one that reached the last segment
        self.tail = 0  # provisional entries of the last_block bridge in the last block
        self.memory = request.policy.init_state()
        self.memory_after = {
            len(request.prompt) - 1: self.memory
        }  # position -> memory after its last decision
        self.emitted: list[Emitted] = []
        self.ended: str | None = None
        self.stats = Stats()

    # What the schedule may ask for

    def visit(self, suppress: bool = False) -> None:
        """One prompt cell, or one segment. `suppress` (verify only): the newest token stays in any case."""
        assert self.ended is None and (self.propagation.judged or not suppress)
        if self.station == PROMPT:
            self._take_prompt_cell()
        else:
            self._take_newest_token(suppress)

    def drain(self, upto: int | None = None) -> None:
        """Run what is pending through the segments below `upto` (all), undecided. In verify, judge it."""
        assert self.propagation.waits and self.station == 0
        passed = None
        for s in range(1, len(self.frontier) if upto is None else upto):
            passed = self._push(s) if self.ring[s] else passed
        if self.propagation.judged and passed is not None:
            assert upto is None, "only a whole pass can be judged"
            self._head(passed.x_TD)

    @property
    def can_drain(self) -> bool:
        return self.propagation.waits and self.station == 0 and self.frontier[0] > self.frontier[-1]

    # The walk

    def _take_prompt_cell(self) -> None:
        """Full depth, final at once; after the last cell the head gives the first token."""
        start, length = self.frontier[0], len(self.request.prompt)
        stop = min(self.cell_end(start), length)
        self.ring[0] = [(p, self.model.embed[self.tokens[p]]) for p in range(start, stop)]
        for s in range(len(self.frontier)):
            passed = self._push(s, cell=True)
        if stop == length:
            self._back_to_start()
            self._speak(passed.x_TD[-1])

    def _take_newest_token(self, suppress: bool) -> None:
        s = self.station
        if s == 0:
            position = self.frontier[0]
            self.ring[0] = [(position, self.model.embed[self.tokens[position]])]
        passed = self._push(s)
        if s == len(self.frontier) - 1:
            self._head(passed.x_TD)
        else:
            self._exit(s, passed, suppress)

    def _push(self, s: int, cell: bool = False) -> Passed:
        """THE primitive: everything pending at segment s goes through it, as one chunk."""
        positions, x_TD = [p for p, _ in self.ring[s]], torch.stack([x for _, x in self.ring[s]])
        assert cell or len(positions) <= RUN_LIMIT, "chunk"
        is_last = s == len(self.frontier) - 1
        if is_last:
            self._drop_tail(0)
        passed = self.model.segments[s].run(x_TD, self.states, positions, cell)
        self.ring[s] = []
        self.frontier[s] += len(positions)
        if not is_last:
            self.ring[s + 1] += zip(positions, passed.x_TD, strict=True)
        if not (cell or self.propagation.judged):
            self.commit(s, len(positions))
        return passed

    # At an exit

    def _exit(self, e: int, passed: Passed, suppress: bool) -> None:
        """The newest token leaves, or stays and goes on to the next segment."""
        logits = self._bridge_logits(e, passed) if self.request.policy.needs_logits else None
        leaves = self._decide(e, passed, logits, suppress)
        if leaves and logits is None:
            logits = self._bridge_logits(e, passed)
        if logits is not None and (not leaves or logits.isnan().any()):
            leaves = False
            self.take_back(e)
        if leaves and logits is not None:
            self._leave(e, passed, logits)
        else:
            self.station = e + 1

    def _decide(self, e: int, passed: Passed, logits: Tensor | None, suppress: bool) -> bool:
        """The policy is asked first, also where it is then overruled. NaN means stay; it never sees it."""
        assert passed.gate is not None
        index = len(self.tokens) - len(self.request.prompt)
        depths = [len(segment.blocks) for segment in self.model.segments]
        may_leave = not suppress and self.has_room() and self.run_length() < self.request.run_max
        signal = Signal(
            exit=e,
            gate=passed.gate,
            entering_D=passed.entering_TD[-1],
            leaving_D=passed.x_TD[-1],
            index=index,
            max_tokens=self.request.max_tokens,
            logits_V=logits,
            share=sum(depths[: e + 1]) / sum(depths),
            may_leave=may_leave,
        )
        leaves = False
        if not signal.has_nan():
            leaves, self.memory = self.request.policy(signal, self.memory)
        self.memory_after[self.frontier[0] - 1] = self.memory
        return leaves and may_leave

    def _bridge_logits(self, e: int, passed: Passed) -> Tensor:
        """A bridge that borrows the last block leaves one provisional entry there: the tail."""
        hidden_D = passed.bridged_D
        assert hidden_D is not None
        if self._borrows(e):
            last, position = self.model.blocks[-1], self.frontier[e] - 1
            hidden_D = last.run(hidden_D[None], self.states[last], [position])[-1]
            self.tail += 1
        return self.model.logits(hidden_D)

    def _leave(self, e: int, passed: Passed, logits: Tensor) -> None:
        token, logprob = choose(logits, self.tokens, self.request.sampling)
        self.run += 1
        self.stats.left += 1
        self.station = 0
        self.propagation.after_exit(self, e, passed.x_TD[-1])
        if self.propagation.judged:
            self.tokens.append(token)
        else:
            self._emit(token, logprob, e)

    # At the head

    def _head(self, x_TD: Tensor) -> None:
        """The last segment has taken all that was pending."""
        self._back_to_start()
        if self.propagation.judged:
            self._judge(x_TD)
        else:
            self._speak(x_TD[-1])

    def _judge(self, x_TD: Tensor) -> None:
        """Commit token by token until an end or a wrong draft, then roll all segments back to that."""
        base = self.frontier[-1] - len(x_TD)
        drafts = self.tokens[base + 1 :]
        del self.tokens[base + 1 :]
        # One draft less than states, or as many where the newest draft was not consumed before judging.
        for x_D, draft in zip_longest(x_TD, drafts):
            token = self._speak(x_D)
            self.stats.rejected += draft is not None and token is not None and token != draft
            if self.ended or token != draft:
                break
        kept = len(self.tokens) - 1 - base
        self.stats.cut += self.ended is not None and kept < len(x_TD)
        self._keep(base, self.kept(kept, len(x_TD)))

    def _keep(self, base: int, kept: int) -> None:
        for s in range(len(self.frontier)):
            self.commit(s, kept)
        self.frontier = [base + kept] * len(self.frontier)
        self.restore_memory(base + kept - 1)

    def _speak(self, x_D: Tensor) -> int | None:
        """The full model's choice after the committed tokens is committed too; NaN ends the row."""
        logits = self.model.logits(x_D)
        if logits.isnan().any():
            self.ended = "nan"
            return None
        token, logprob = choose(logits, self.tokens, self.request.sampling)
        self._emit(token, logprob, len(self.frontier) - 1)
        return token

    def _emit(self, token: int, logprob: float, exit: int) -> None:
        self.tokens.append(token)
        self.emitted.append(Emitted(token, logprob, exit))
        self.ended = self.request.ending(self.tokens)

    def _back_to_start(self) -> None:
        self.stats.deep += 1
        self.run = 0
        self.station = 0

    # Rules a test can replace one at a time

    def cell_end(self, start: int) -> int:
        """Cells lie on a fixed grid from position 0; the last one may be short."""
        cell = self.request.cell
        return start // cell * cell + cell

    def has_room(self) -> bool:
        """A draft must have a place: in the slot, and below the number of tokens asked for."""
        return not self.propagation.judged or len(self.tokens) < self.request.most_tokens

    def run_length(self) -> int:
        return self.run

    def take_back(self, e: int) -> None:
        """The newest token stays after all: its tail entry goes."""
        if self._borrows(e):
            self._drop_tail(self.tail - 1)

    def kept(self, kept: int, consumed: int) -> int:
        """Ends are examined before the rollback, so what an end discards is not kept."""
        return kept

    def restore_memory(self, position: int) -> None:
        """The policy goes on as after its last decision on the newest kept token."""
        self.memory = self.memory_after[position]

    # State

    def commit(self, s: int, n: int) -> None:
        for part in self.model.segments[s].parts:
            part.mixer.commit(self.states[part], n)

    def export(self) -> list:
        return self.model.export(self.states)

    def _borrows(self, e: int) -> bool:
        return self.model.exits[e].bridge.borrows_last_block

    def _drop_tail(self, keep: int) -> None:
        if self.tail > keep:
            last = self.model.blocks[-1]
            last.mixer.rollback(self.states[last], keep)
            self.tail = keep
