"""Reliability: of the tokens of which a gate is so sure, how many are right? (ECE: arXiv 1706.04599, eq. 3.)

Shapes: N positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offramp.calibration.temperature import Floats

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Positions whose probability is from `low` to below `high`: how many, the mean of what was predicted and the
    share that was right; 0 where there are none."""

    low: float
    high: float
    count: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Reliability:
    """Of one exit. error: the mean distance of predicted and observed, positions counting alike (ECE)."""

    bins: tuple[Bin, ...]
    error: float


def reliability(predicted_N: Floats, right_N: Floats, bins: int = BINS) -> Reliability:
    """Probabilities and what came true, in bins of equal width."""
    place_N = np.minimum((predicted_N * bins).astype(int), bins - 1)
    found = tuple(_bin(i, bins, predicted_N[place_N == i], right_N[place_N == i]) for i in range(bins))
    gaps = sum(item.count * abs(item.predicted - item.observed) for item in found)
    return Reliability(found, gaps / max(1, len(predicted_N)))


def _bin(i: int, bins: int, predicted_N: Floats, right_N: Floats) -> Bin:
    count = len(predicted_N)
    means = (float(predicted_N.mean()), float(right_N.mean())) if count else (0.0, 0.0)
    return Bin(i / bins, (i + 1) / bins, count, *means)
