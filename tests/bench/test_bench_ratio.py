"""Ratios over rounds: paired, by medians, with an interval that covers what it says."""

from __future__ import annotations

import numpy as np
import pytest

from offramp.bench.ratio import FEWEST, Ratio, not_slower, ratio


def test_what_slows_both_alike_falls_out() -> None:
    """The machine halves its speed in the middle; within a round it is the same."""
    machine = np.array([100.0] * 8 + [50.0] * 7)
    found = ratio(1.3 * machine, machine)
    assert found.value == pytest.approx(1.3) and found.low == pytest.approx(1.3) == found.high


def test_one_disturbed_round_moves_nothing() -> None:
    found = ratio([1.2] * 14 + [0.01], [1.0] * 15)
    assert found.value == 1.2 and found.low == 1.2


def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        rates = rng.lognormal(0.0, 0.1, 15)
        found = ratio(rates, np.ones(15), seed=trial)
        assert found.low is not None and found.high is not None
        hits += found.low <= 1.0 <= found.high
    assert 0.88 <= hits / 200 <= 0.995


def test_few_rounds_have_no_interval() -> None:
    assert ratio([2.0] * (FEWEST - 1), [1.0] * (FEWEST - 1)) == Ratio(2.0, None, None)
    assert not_slower(Ratio(2.0, None, None), Ratio(1.0, 0.99, 1.01)) is None


@pytest.mark.parametrize(
    ("low", "control", "verdict"),
    [
        (0.985, Ratio(1.0, 0.995, 1.005), True),  # within 2 %
        (0.975, Ratio(1.0, 0.995, 1.005), False),
        (0.975, Ratio(1.0, 0.96, 1.02), True),  # within what the control itself does
    ],
)
def test_not_slower_by_more_than_two_percent_or_the_control(
    low: float, control: Ratio, verdict: bool
) -> None:
    assert not_slower(Ratio(1.0, low, 1.1), control) is verdict
