"""Ratios of two engines over rounds, and how sure they are.

A round is a pair: both ran within seconds of each other, on the same prompts. The median of the rounds' ratios is not
moved by a round that something disturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000
CONFIDENCE = 0.95
FEWEST = 6
"""Rounds that an interval takes: of fewer even the least and the largest ratio are too near."""
LEEWAY = 0.02
"""A loss so small counts as none."""


@dataclass(frozen=True)
class Ratio:
    """A median over rounds and its 95 % interval; None for fewer than FEWEST rounds."""

    value: float
    low: float | None
    high: float | None


def ratio(rates: Sequence[float], others: Sequence[float], seed: int = 0) -> Ratio:
    """rates, others: of two engines by round. The interval is the bootstrap's, pairs drawn whole."""
    ratios_N = np.array(rates, float) / np.array(others, float)
    value = float(np.median(ratios_N))
    if len(ratios_N) < FEWEST:
        return Ratio(value, None, None)
    drawn_BN = np.random.default_rng(seed).choice(ratios_N, (DRAWS, len(ratios_N)))
    low, high = np.quantile(np.median(drawn_BN, 1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Ratio(value, float(low), float(high))


def not_slower(found: Ratio, control: Ratio) -> bool | None:
    """Whether the interval lies above 1 - max(2 %, the control's half-width); None where no interval is known."""
    if found.low is None or control.low is None or control.high is None:
        return None
    return found.low > 1 - max(LEEWAY, (control.high - control.low) / 2)
