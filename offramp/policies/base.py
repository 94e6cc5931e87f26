"""The policy contract: a pure rule from what an exit shows, and what the rule remembers, to who leaves.

A policy is called at every exit the newest token visits, also when run_max or the scheduler overrules it (unless it
reads logits and remembers nothing: that would cost a head, and nobody would know); never with NaN, not for prompt or
drained tokens. Its memory is a value, not an attribute: the engine keeps the one that followed each provisional token,
so rolling back is taking an older one.

Shapes: R rows, D width, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True)
class Signal:
    """What a rule may see of the newest token of each row at one exit.

    The exit's number, the blocks before it and those of the whole model · gate_R in [0, 1], 0 at an exit without
    a trained gate · hidden states entering and leaving the segment · the index of the token to be chosen among the
    generated ones, and how many may be generated · whether run_max and the schedule let the row leave, whatever the
    policy says · the bridge's logits, only for a policy that needs them.
    """

    exit: int
    depth: int
    blocks: int
    gate_R: Tensor
    entering_RD: Tensor
    leaving_RD: Tensor
    index: Sequence[int]
    max_tokens: Sequence[int]
    may_leave: Sequence[bool]
    logits_RV: Tensor | None = None


Memory = tuple[float, ...]
"""What a policy remembers of one row; empty for most."""


class ExitPolicy(ABC):
    """Says which rows leave. `thresholds` has one number in [0, 1] for each exit; 1 never leaves.

    A subclass's docstring begins with one line on what is held against the threshold; `generate --help` shows it.
    needs_logits: it reads the vocabulary at every exit, and pays for it. needs_gate: it asks the exits' gates, so
    the engine refuses it for exits that have none. default: the threshold when nobody gives one.
    """

    needs_logits: ClassVar[bool] = False
    needs_gate: ClassVar[bool] = False
    default: ClassVar[float] = 0.5

    def __init__(self, thresholds: Sequence[float]) -> None:
        self.thresholds = tuple(thresholds)

    @classmethod
    def default_thresholds(cls, for_gates: tuple[float, ...]) -> tuple[float, ...]:
        """The thresholds when nobody gives any. for_gates: what the exits suggest for their gates, if anything."""
        return (cls.default,)

    def init_state(self) -> Memory:
        """The memory of a row that has not been asked yet."""
        return ()

    @abstractmethod
    def __call__(self, signal: Signal, memory: Sequence[Memory]) -> tuple[Tensor, list[Memory]]:
        """Who leaves (`leave_R`, bool) and what the rule remembers of each row from now on."""


class ScorePolicy(ExitPolicy):
    """A rule without memory: a token leaves where its score, at most 1, passes the exit's threshold."""

    @abstractmethod
    def score(self, signal: Signal) -> Tensor:
        """How sure the exit is of each row's token, `[R]`."""

    def __call__(self, signal: Signal, memory: Sequence[Memory]) -> tuple[Tensor, list[Memory]]:
        return self.score(signal) > self.thresholds[signal.exit], list(memory)
