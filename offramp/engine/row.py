"""A running sequence: its request, its place in the engine, and what it remembers between turns.

Shapes: V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from offramp.engine.controller import Odds, Prospect
from offramp.engine.monitor import Watch
from offramp.engine.reply import Choice, Stats, TokenEvent
from offramp.engine.request import Request
from offramp.policies.base import ExitPolicy, Memory
from offramp.propagation.base import Propagation
from offramp.text import TextStream


@dataclass
class Shared:
    """What samples of one prompt share: its memory (`Frontier.snapshot`) and the logits `[V]` after it, once one of
    them has run it."""

    saved: list[dict[str, Tensor]] | None = None
    logits_V: Tensor | None = None


@dataclass
class Row:
    """A running row: its request, its slot, its tokens (committed, then drafts), and what it remembers.

    limit: tokens, prompt included, that the context and the slot hold. prefilled: prompt tokens already run.
    stays: its newest token has passed the first exit and waits for a deep pass. paused: it takes no turns.
    drafts[i] was chosen from the i-th token after the last deep pass. run counts the tokens that left since the
    last one that reached the last segment. memory is the policy's, after the newest decision. odds: how often it
    leaves the first exit, and is right there. shared: what it has in common with other samples of its prompt.
    cells: a key for each whole cell of its prompt. watch: hears what became of its drafts.
    """

    id: int
    request: Request
    slot: int
    propagation: Propagation
    policy: ExitPolicy
    stream: TextStream | None
    stats: Stats
    limit: int
    eos: frozenset[int]
    tokens: list[int]
    odds: Odds
    watch: Watch
    shared: Shared | None = None
    cells: list[bytes] = field(default_factory=list)
    prefilled: int = 0
    stays: bool = False
    paused: bool = False
    run: int = 0
    memory: Memory = ()
    drafts: list[Choice] = field(default_factory=list)
    emitted: int = 0
    finish: str | None = None

    @property
    def prompted(self) -> bool:
        """Whether its whole prompt has run."""
        return self.prefilled == len(self.request.prompt)

    def forced(self, ahead: int = 0) -> int | None:
        """The token that must come next, or `ahead` positions later; None where the model chooses."""
        index = len(self.tokens) - len(self.request.prompt) + ahead
        return self.request.forced[index] if index < len(self.request.forced) else None

    def may_leave(self) -> bool:
        """Whether the row's own rule lets its newest token leave: no more than run_max in a row."""
        return self.run < self.request.run_max

    def prospect(self) -> Prospect:
        """What the controller should know of it."""
        room = self.request.run_max - self.run
        return Prospect(
            self.odds.leave, self.odds.accept, self.propagation.judged, self.propagation.waits, room
        )

    def full(self) -> bool:
        """Whether nothing after the newest draft could be kept: it fills the row, or is an end."""
        room = min(len(self.request.prompt) + self.request.most, self.limit) - len(self.tokens)
        return bool(self.drafts) and (room == 0 or self.tokens[-1] in self.eos or self._drafts_stop())

    def _drafts_stop(self) -> bool:
        """Whether a stop string is complete once all drafts are accepted."""
        if self.stream is None or not self.request.stop:
            return False
        ahead = self.stream.copy()
        return any([ahead.push(draft.token).stopped for draft in self.drafts])

    def leave(self, choice: Choice, depth: int) -> list[TokenEvent]:
        """The newest token left: its choice is a draft (`verify`) or the next committed token."""
        self.run += 1
        self.stays = False
        if not self.propagation.judged:
            return [self.commit(choice, depth, drafted=False)]
        self.stats.drafts += 1
        self.drafts.append(choice)
        self.tokens.append(choice.token)
        return []

    def take_drafts(self) -> list[Choice]:
        """Remove the drafts from the row; they are about to be judged."""
        drafts, self.drafts = self.drafts, []
        del self.tokens[len(self.tokens) - len(drafts) :]
        return drafts

    def arrive(self) -> None:
        """A token has reached the last segment."""
        self.run, self.stays = 0, False

    def commit(self, choice: Choice, depth: int, drafted: bool) -> TokenEvent:
        """Append one final token and look for an end: EOS, stop, max_tokens, context, in that order."""
        assert not self.drafts and self.finish is None
        self.tokens.append(choice.token)
        index, self.emitted = self.emitted, self.emitted + 1
        self.stats.tokens += 1
        text = self._push(choice.token)
        return TokenEvent(
            token=choice.token,
            text=text,
            depth=depth,
            gate=choice.gate,
            drafted=drafted,
            logprob=choice.logprob,
            best=choice.best,
            index=index,
            finish=self.finish,
            request=self.id,
            stats=self.stats if self.finish else None,
        )

    def fail(self, depth: int) -> TokenEvent:
        """The model's logits are no numbers: the row ends here, with what is certain so far."""
        self.finish = "nan"
        return TokenEvent(
            -1, self._rest(), depth, None, False, math.nan, -1, self.emitted, self.finish, self.id, self.stats
        )

    def _push(self, token: int) -> str:
        if token in self.eos:
            self.finish = "eos"
            return self._rest()
        text, stopped = "", False
        if self.stream is not None:
            delta = self.stream.push(token)
            text, stopped = delta.text, delta.stopped
        if stopped:
            self.finish = "stop"
            return text
        if self.emitted >= self.request.most:
            self.finish = "forced" if self.request.forced else "max_tokens"
        elif len(self.tokens) >= self.limit:
            self.finish = "context"
        return text + (self._rest() if self.finish else "")

    def _rest(self) -> str:
        return self.stream.finish() if self.stream is not None else ""
