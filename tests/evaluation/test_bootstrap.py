"""Intervals that hold what they promise, and no winner inside the noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from offramp.errors import UsageError
from offramp.evaluation.bootstrap import (
    Floats,
    Interval,
    Sample,
    compare,
    difference,
    interval,
    paired_bootstrap,
)


def drawn(rng: np.random.Generator, seeds: int, items: int, spread: float, shift: float = 0.0) -> Floats:
    """Values with an effect of the seed (`spread`), of the item (1) and of both (0.5), whose true mean is `shift`."""
    of_seed, of_item = rng.normal(0, spread, (seeds, 1)), rng.normal(0, 1, (1, items))
    return shift + of_seed + of_item + rng.normal(0, 0.5, (seeds, items))


def coverage(seeds: int, items: int, spread: float, trials: int) -> float:
    rng = np.random.default_rng(seeds * items)
    found = (interval(Sample.mean(drawn(rng, seeds, items, spread)), seed=t) for t in range(trials))
    return sum(one.low <= 0 <= one.high for one in found) / trials


@pytest.mark.parametrize(("seeds", "items", "spread"), [(1, 40, 0.0), (3, 24, 1.0)])
def test_95_of_100_intervals_hold_the_truth(seeds: int, items: int, spread: float) -> None:
    """120 trials: below 0.89 or, for one seed, above 0.99 would be 3 standard deviations off."""
    assert 0.89 <= coverage(seeds, items, spread, 120) <= (0.99 if seeds == 1 else 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "items", "spread"), [(1, 12, 0.0), (1, 100, 0.0), (2, 40, 1.0), (3, 40, 0.3), (8, 60, 0.5)]
)
def test_95_of_100_intervals_hold_the_truth_with_many_trials(seeds: int, items: int, spread: float) -> None:
    assert 0.925 <= coverage(seeds, items, spread, 1000) <= 0.995


def test_pairing_takes_out_what_items_have_of_their_own() -> None:
    rng = np.random.default_rng(0)
    base = drawn(rng, 1, 60, 0.0)
    better = base + 0.1 + rng.normal(0, 0.05, base.shape)
    paired = difference(Sample.mean(better), Sample.mean(base))
    apart = difference(Sample.mean(better), Sample.mean(base[:, rng.permutation(60)]))
    assert paired.high - paired.low < (apart.high - apart.low) / 5
    assert compare(Sample.mean(better), Sample.mean(base)) == "a"
    assert compare(Sample.mean(base), Sample.mean(better)) == "b"
    assert compare(Sample.mean(better), Sample.mean(base), higher_is_better=False) == "b"


def test_three_seeds_that_happen_to_agree_name_no_winner() -> None:
    """Between equal gates all three agree in sign one time in four; a plain percentile names a winner each time."""
    rng = np.random.default_rng(5)
    trials = 200
    arms = [[Sample.mean(drawn(rng, 3, 40, 1.0) * 0.1) for _ in range(2)] for _ in range(trials)]
    agreed = sum(len(set(np.sign((a.part_SI - b.part_SI).mean(1)))) == 1 for a, b in arms)
    named = sum(compare(a, b) is not None for a, b in arms)
    assert agreed > trials / 6, "or this test says nothing"
    assert named <= trials * 0.1


def test_a_clear_winner_is_named() -> None:
    rng = np.random.default_rng(6)
    base = drawn(rng, 3, 40, 0.05)
    assert compare(Sample.mean(base + drawn(rng, 3, 40, 0.05) * 0.1 + 1), Sample.mean(base)) == "a"


def test_equal_arms_tie() -> None:
    same = Sample.mean(np.random.default_rng(1).random(20).tolist())
    assert difference(same, same) == Interval(0.0, 0.0, 0.0)
    assert compare(same, same) is None


def test_the_value_is_the_ratio_of_sums() -> None:
    short_and_long = Sample.of([[(1.0, 1.0), (0.0, 9.0), None]])
    assert short_and_long.value == interval(short_and_long).value == 0.1


def test_items_that_say_nothing_change_nothing() -> None:
    values = np.random.default_rng(2).random(30).tolist()
    with_gaps = Sample.of([[(value, 1.0) for value in values] + [None] * 10])
    assert interval(Sample.mean(values)) == interval(with_gaps)
    few = interval(Sample.of([[(value, 1.0) for value in values[:3]] + [None] * 37]))
    assert few == interval(Sample.mean(values[:3])), "three items are as few among forty"
    half = Sample.of([[(value, 1.0) for value in values[:3]] + [None] * 27])
    gap, all_of_it = (
        difference(half, Sample.mean(values)),
        difference(Sample.mean(values), Sample.mean(values)),
    )
    assert gap.high - gap.low > few.high - few.low > all_of_it.high - all_of_it.low


def test_nothing_measured_names_nobody() -> None:
    nothing, something = Sample.of([[None, None]]), Sample.mean([0.0, 1.0])
    found = interval(nothing)
    assert math.isnan(found.value) and math.isnan(found.low) and found.around_zero
    assert compare(nothing, something) is None
    assert math.isnan(interval(Sample.of([[]])).value)


def test_a_single_item_names_nobody() -> None:
    for one, other in (([1.0], [0.0]), ([[1.0], [0.9], [0.8]], [[0.0]] * 3)):
        found = difference(Sample.mean(one), Sample.mean(other))
        assert found.value > 0 and math.isnan(found.low) and found.around_zero
    silent = [None] * 30
    assert compare(Sample.of([[(1.0, 1.0), *silent]]), Sample.of([[(0.0, 1.0), *silent]])) is None


def test_the_same_seed_draws_the_same() -> None:
    one = Sample.mean(np.random.default_rng(3).random(25).tolist())
    assert interval(one) == interval(one) != interval(one, seed=1)


def test_one_row_stands_for_every_seed() -> None:
    """The full model has no training seed."""
    rng = np.random.default_rng(4)
    gates, full = drawn(rng, 3, 20, 0.1), drawn(rng, 1, 20, 0.0)
    repeated = Sample.mean(np.repeat(full, 3, axis=0))
    once, thrice = (difference(Sample.mean(gates), other) for other in (Sample.mean(full), repeated))
    assert (once.value, once.low, once.high) == pytest.approx((thrice.value, thrice.low, thrice.high))


def test_one_seed_is_a_bootstrap_of_its_items() -> None:
    """Against the textbook's formula, stretched: mean +- t s / sqrt(n)."""
    values = np.random.default_rng(8).normal(size=200)
    found = interval(Sample.mean(values.tolist()))
    half = 1.972 * values.std(ddof=1) / math.sqrt(200)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_any_statistic_of_the_arms() -> None:
    arms = [Sample.mean([4.0] * 5), Sample.mean([2.0] * 5)]
    assert paired_bootstrap(arms, lambda values: values[0] / values[1]) == Interval(2.0, 2.0, 2.0)


def test_arms_of_other_items_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot be paired"):
        difference(Sample.mean([1.0, 2.0]), Sample.mean([1.0]))
    with pytest.raises(UsageError, match="cannot be paired"):
        difference(Sample.mean([[1.0]] * 2), Sample.mean([[1.0]] * 3))
