"""Medians that say how far they can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

LEVEL = 0.95
FEWEST = 6
"""Values that an interval of this level takes: of fewer, even the smallest and the largest are too near."""


@dataclass(frozen=True)
class Ratio:
    """A median, and the order statistics that hold the true one with at least LEVEL, whatever the distribution.
    Of fewer than FEWEST values: the smallest and the largest."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Ratio:
        ordered, outside = sorted(values), _outside(len(values))
        return cls(median(ordered), ordered[outside], ordered[-1 - outside])

    @staticmethod
    def is_interval(count: int) -> bool:
        """Whether so many values give an interval of this level."""
        return count >= FEWEST

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f} to {self.high:.2f})"


def _outside(count: int) -> int:
    """How many values to leave out at either end. With k left out the median is missed where at most k values lie
    on one side of it; each value is on either side with equal chances."""
    missed, left_out = 0.0, 0
    for k in range(count // 2):
        missed += 2 * math.comb(count, k) / 2**count
        if missed <= 1 - LEVEL:
            left_out = k
    return left_out


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not less than this share of all."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
