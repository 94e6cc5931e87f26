"""What is asked (Sampling, Request), what is answered (TokenEvent, Generation), and the row between (Sequence)."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

from torch import Tensor

from offramp.engine.controller import Odds, Prospect
from offramp.errors import UsageError
from offramp.mixers.base import RUN_LIMIT
from offramp.policies.base import ExitPolicy, Memory
from offramp.propagation.base import Propagation, Work
from offramp.text import TextStream


def _require(fine: bool, name: str, value: object, wanted: str) -> None:
    if not fine:
        raise UsageError(f"{name} is {value}; it must be {wanted}.")


LogitsProcessor = Callable[[Tensor, Tokens[int]], Tensor]
"""Logits `[V]` and the tokens before the position -> the logits `[V]` to choose from.

A function of these two alone: it is asked again when a draft is judged, and must give the same answer.
"""


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen from logits. temperature 0 is greedy; 0, 1.0 and 0.0 switch top_k, top_p, min_p off.

    repetition_penalty (CTRL, arXiv 1909.05858) divides positive and multiplies negative logits of the tokens among
    the last penalty_window. processor changes the logits before all that, for exits and the last segment alike.
    Raises UsageError for values outside their range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    penalty_window: int = 64
    seed: int = 0
    processor: LogitsProcessor | None = None

    def __post_init__(self) -> None:
        heat = self.temperature
        _require(heat == 0 or 1e-6 <= heat < math.inf, "temperature", heat, "0 (greedy) or at least 0.000001")
        _require(self.top_k >= 0, "top_k", self.top_k, "a count >= 0 (0 is off)")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "in (0, 1] (1 is off)")
        _require(0 <= self.min_p < 1, "min_p", self.min_p, "in [0, 1) (0 is off)")
        penalty = self.repetition_penalty
        _require(0.01 <= penalty <= 100, "repetition_penalty", penalty, "between 0.01 and 100 (1 is off)")
        _require(self.penalty_window >= 1, "penalty_window", self.penalty_window, "a count >= 1")


@dataclass(frozen=True)
class Request:
    """One prompt and everything that decides its reply; fixed when it is added.

    thresholds: one number in [0, 1] for all exits, or one for each. run_max: how many tokens may leave in a row
    before one must reach the last segment. stop: strings that end the reply and are not part of it.
    forced: the reply's tokens, given: each is taken whatever the model would choose, and the events say its logprob,
    its depth and what would have been chosen (`best`). Nothing but its own end ends it.
    priority: requests of a lower number begin first. salt: prompts share what was computed of them only with
    prompts of the same salt.
    Raises UsageError for values outside their range.
    """

    prompt: tuple[int, ...]
    propagation: str = "verify"
    policy: str = "gate"
    thresholds: tuple[float, ...] = (0.5,)
    run_max: int = 8
    sampling: Sampling = Sampling()
    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    forced: tuple[int, ...] = ()
    priority: int = 0
    salt: str = ""

    @property
    def most(self) -> int:
        """Tokens that the reply may have."""
        return len(self.forced) or self.max_tokens

    def __post_init__(self) -> None:
        _require(len(self.prompt) > 0, "prompt", "''", "at least one token")
        _require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "a count >= 1")
        _require(1 <= self.run_max < RUN_LIMIT, "run_max", self.run_max, f"between 1 and {RUN_LIMIT - 1}")
        _require(all(self.stop), "a stop string", "''", "at least one character")
        _require(not (self.stop and self.forced), "stop", self.stop, "empty where the reply is forced")
        for threshold in self.thresholds:
            _require(0 <= threshold <= 1, "threshold", threshold, "in [0, 1] (1 never leaves)")


@dataclass
class Stats:
    """Decoding's true work, prompts apart.

    block_tokens: (block, token) pairs computed · block_passes: times a block's weights were read · advances, copies:
    (block, token) pairs where only the state was written, or entries were copied · head_rows, head_passes: rows
    through the vocabulary head, and times it was read · drafts, accepted: tokens that left as drafts, and those the
    last segment confirmed · work: of each part by its name ("blocks.3", "exits.0.gate"; see `Frontier.parts`).
    """

    tokens: int = 0
    block_tokens: int = 0
    block_passes: int = 0
    head_rows: int = 0
    head_passes: int = 0
    drafts: int = 0
    accepted: int = 0
    work: dict[str, Work] = field(default_factory=dict)

    @property
    def advances(self) -> int:
        return self._in_blocks("advance")

    @property
    def copies(self) -> int:
        return self._in_blocks("copy_entries") + self._in_blocks("repeat_entry")

    def _in_blocks(self, verb: str) -> int:
        return sum(work.tokens[verb] for name, work in self.work.items() if name.startswith("blocks."))


@dataclass(frozen=True)
class TokenEvent:
    """One committed token; `token` is -1 on an event that only closes a request whose logits were no numbers, and
    `error` says so.

    text: what became certain with it (may be empty: half a character, the possible beginning of a stop string).
    depth: the blocks behind the choice. gate: the gate's value where an exit chose or drafted it.
    drafted: an exit drafted it and the last segment accepted. logprob: natural log, before filters, after
    temperature and penalties. best: what would have been chosen, where the token was forced; else the token.
    index: 0 for the first generated token. finish: on the last event, one of
    eos, stop, max_tokens, context, forced, nan; that event carries the row's stats.
    """

    token: int
    text: str
    depth: int
    gate: float | None
    drafted: bool
    logprob: float
    best: int
    index: int
    finish: str | None = None
    request: int = 0
    stats: Stats | None = None

    @property
    def error(self) -> str | None:
        """What went wrong, on an event that closes a request for that reason."""
        if self.finish != "nan":
            return None
        return (
            f"the model's logits after {self.index} generated tokens are not numbers, so the reply ends there. Its "
            "weights may overflow in this format: try dtype f32."
        )


@dataclass(frozen=True)
class Generation:
    """The fold of a request's events. `finish` "nan" means the model gave no number: the reply is cut there."""

    tokens: tuple[int, ...]
    text: str
    events: tuple[TokenEvent, ...]
    finish: str
    stats: Stats


@dataclass(frozen=True)
class Choice:
    """A token chosen at one position: by exit number `exit`, or by the last segment (None).

    best: what would have been chosen where the token is forced; else the token itself.
    """

    token: int
    logprob: float
    best: int
    exit: int | None = None
    gate: float | None = None
    memory: Memory = ()


@dataclass
class Shared:
    """What samples of one prompt share: its memory (`Frontier.snapshot`) and the logits `[V]` after it, once one of
    them has run it."""

    saved: list[dict[str, Tensor]] | None = None
    logits_V: Tensor | None = None


@dataclass
class Sequence:
    """A running row: its request, its slot, its tokens (committed, then drafts), and what it remembers.

    limit: tokens, prompt included, that the context and the slot hold. prefilled: prompt tokens already run.
    stays: its newest token has passed the first exit and waits for a deep pass. paused: it takes no turns.
    drafts[i] was chosen from the i-th token after the last deep pass. run counts the tokens that left since the
    last one that reached the last segment. memory is the policy's, after the newest decision. odds: how often it
    leaves the first exit, and is right there. shared: what it has in common with other samples of its prompt.
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
    shared: Shared | None = None
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
            choice.token,
            text,
            depth,
            choice.gate,
            drafted,
            choice.logprob,
            choice.best,
            index,
            self.finish,
            self.id,
            self.stats if self.finish else None,
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
