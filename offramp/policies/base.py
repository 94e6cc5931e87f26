"""The policy contract: a pure rule from what an exit shows, and what the rule remembers, to who leaves.

A policy is called at every exit the newest token visits, also when run_max or the scheduler overrules it; never
with NaN, not for prompt or drained tokens. Its memory is a value, not an attribute: the engine keeps the one that
followed each provisional token, so rolling back is taking an older one.

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

    gate_R in [0, 1] · hidden states entering and leaving the segment · the exit's number · the index of the
    token to be chosen among the generated ones, and how many may be generated · the bridge's logits, only for
    a policy that needs them.
    """

    exit: int
    gate_R: Tensor
    entering_RD: Tensor
    leaving_RD: Tensor
    index: Sequence[int]
    max_tokens: Sequence[int]
    logits_RV: Tensor | None = None


Memory = tuple[float, ...]
"""What a policy remembers of one row; empty for most."""


class ExitPolicy(ABC):
    """Says which rows leave. `thresholds` has one number in [0, 1] for each exit; 1 never leaves."""

    needs_logits: ClassVar[bool] = False

    def __init__(self, thresholds: Sequence[float]) -> None:
        self.thresholds = tuple(thresholds)

    def init_state(self) -> Memory:
        """The memory of a row that has not been asked yet."""
        return ()

    @abstractmethod
    def __call__(self, signal: Signal, memory: Sequence[Memory]) -> tuple[Tensor, list[Memory]]:
        """Who leaves (`leave_R`, bool) and what the rule remembers of each row from now on."""
