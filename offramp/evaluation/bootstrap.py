"""Intervals by paired bootstrap over items and training seeds.

The same items are asked of every seed, so the two are crossed: one draw takes seeds with replacement and items with
replacement, and counts every pair of them (Owen's pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007). Arms
that are compared share their draws: what an item has of its own falls out of the difference.

A percentile interval is too narrow where there are few of something, by sqrt(n / (n - 1)) and by the normal quantile
standing for Student's: at three seeds it is a third of what it should be. The draws are stretched by as much along each
of the two (as Hesterberg does for one sample, arXiv 1411.5279): three seeds that happen to agree name no winner.

Shapes: S seeds, I items, B draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit  # type: ignore[import-untyped]

from offramp.errors import UsageError

Floats = NDArray[np.float64]

DRAWS = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Sample:
    """A measure of one arm: the sum of `part` over the sum of `whole`, both `[S, I]`.

    A mean of values is one whose wholes are 1. Where the whole is 0 an item says nothing.
    """

    part_SI: Floats
    whole_SI: Floats

    @classmethod
    def of(cls, pairs: Sequence[Sequence[tuple[float, float] | None]]) -> Sample:
        """pairs[s][i]: the part and the whole of item i under seed s; None where it says nothing."""
        table_SI2 = np.array([[pair or (0.0, 0.0) for pair in row] for row in pairs], np.float64)
        table_SI2 = table_SI2.reshape(len(pairs), -1, 2)
        return cls(table_SI2[..., 0], table_SI2[..., 1])

    @classmethod
    def mean(cls, values: Sequence[float] | Sequence[Sequence[float]]) -> Sample:
        """Of values `[I]`, or of `[S, I]`."""
        part_SI = np.atleast_2d(np.asarray(values, np.float64))
        return cls(part_SI, np.ones_like(part_SI))

    @property
    def value(self) -> float:
        """NaN where no item says anything."""
        return float(_ratio(self.part_SI.sum(), self.whole_SI.sum()))


@dataclass(frozen=True)
class Interval:
    """A value and what it may as well have been: NaN where a single item says anything; all NaN where none does."""

    value: float
    low: float
    high: float

    @property
    def around_zero(self) -> bool:
        """Whether 0 lies inside, or nothing is known of what does: no sign may be named."""
        return not (self.low > 0 or self.high < 0)


def interval(sample: Sample, *, confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
    """The measure of one arm."""
    return paired_bootstrap([sample], lambda values: values[0], confidence=confidence, seed=seed)


def difference(a: Sample, b: Sample, *, confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
    """a - b, the arms drawn together."""
    return paired_bootstrap([a, b], lambda values: values[0] - values[1], confidence=confidence, seed=seed)


def compare(a: Sample, b: Sample, *, higher_is_better: bool = True, seed: int = 0) -> str | None:
    """Which arm is better, "a" or "b"; None where the interval of their difference holds 0."""
    found = difference(a, b, seed=seed)
    if found.around_zero:
        return None
    return "a" if (found.low > 0) == higher_is_better else "b"


def paired_bootstrap(
    arms: Sequence[Sample],
    statistic: Callable[[Floats], Floats],
    *,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """The interval of a statistic of the arms' measures `[arms]`; it is also given `[arms, B]`, one column a draw.

    Every arm has the same items. One that does not depend on the seed has a single row of them. With one seed for all,
    the interval speaks of that training alone. Raises UsageError for arms that cannot be paired.
    """
    seeds, _ = _shape(arms)
    arms, items = _telling(arms)
    least = min(int(arm.whole_SI.any(0).sum()) for arm in arms)
    rng = np.random.default_rng(seed)
    seeds_BS, items_BI = _counts(rng, draws, seeds), _counts(rng, draws, items)
    same_BS, same_BI = np.ones_like(seeds_BS), np.ones_like(items_BI)

    def values(s_BS: Floats, i_BI: Floats) -> Floats:
        return statistic(np.stack([_values(arm, s_BS, i_BI) for arm in arms]))

    value = values(same_BS[:1], same_BI[:1])[0]
    drawn_B = values(seeds_BS, items_BI)
    for count, alone_B in ((seeds, values(seeds_BS, same_BI)), (least, values(same_BS, items_BI))):
        drawn_B = drawn_B + (_stretch(count, confidence) - 1) * (alone_B - value)
    drawn_B = drawn_B[np.isfinite(drawn_B)]
    if not np.isfinite(value) or not len(drawn_B):
        return Interval(math.nan, math.nan, math.nan)
    if least < 2:
        return Interval(float(value), math.nan, math.nan)
    low, high = np.quantile(drawn_B, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(value), float(low), float(high))


def _shape(arms: Sequence[Sample]) -> tuple[int, int]:
    """How many seeds and items there are."""
    items = {arm.part_SI.shape[1] for arm in arms}
    seeds = {arm.part_SI.shape[0] for arm in arms} - {1}
    if len(items) != 1 or len(seeds) > 1:
        shapes = ", ".join(str(arm.part_SI.shape) for arm in arms)
        raise UsageError(
            f"arms of (seeds, items) {shapes} cannot be paired: they need the same items, and the same seeds or one."
        )
    return max(seeds, default=1), items.pop()


def _telling(arms: Sequence[Sample]) -> tuple[list[Sample], int]:
    """The arms without items that say nothing in any of them, and how many are left: spread comes of those alone."""
    told_I = np.any([arm.whole_SI.any(0) for arm in arms], 0)
    return [Sample(arm.part_SI[:, told_I], arm.whole_SI[:, told_I]) for arm in arms], int(told_I.sum())


def _counts(rng: np.random.Generator, draws: int, among: int) -> Floats:
    """How often each of so many things is taken when as many are drawn with replacement: `[B, among]`."""
    if among == 0:
        return np.zeros((draws, 0))
    return rng.multinomial(among, np.full(among, 1 / among), size=draws).astype(np.float64)


def _values(arm: Sample, seeds_BS: Floats, items_BI: Floats) -> Floats:
    """The arm's measure under each draw."""
    shape = (seeds_BS.shape[1], arm.part_SI.shape[1])
    sums = [
        ((seeds_BS @ np.broadcast_to(table_SI, shape)) * items_BI).sum(-1)
        for table_SI in (arm.part_SI, arm.whole_SI)
    ]
    return _ratio(*sums)


def _ratio(part: Floats, whole: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.not_equal(whole, 0), np.divide(part, whole), np.nan)


def _stretch(count: int, confidence: float) -> float:
    """By how much draws of `count` things fall short of their mean's true spread. One thing has none to show."""
    if count < 2:
        return 1.0
    tail = (1 + confidence) / 2
    return float(np.sqrt(count / (count - 1)) * stdtrit(count - 1, tail) / ndtri(tail))
