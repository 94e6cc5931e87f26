"""The interval is over prompts."""

from __future__ import annotations

import numpy as np
import pytest

from offramp.forecast.interval import share


def test_the_share_is_of_all_tokens() -> None:
    assert share([1, 9], [10, 10]).value == 0.5
    assert share([10, 0], [10, 30]).value == 0.25


def test_equal_prompts_leave_no_doubt() -> None:
    found = share([3] * 8, [4] * 8)
    assert found.low == found.value == found.high == 0.75


def test_it_is_a_share_at_both_ends() -> None:
    for agreed in ([10, 10, 10, 9], [0, 0, 0, 1]):
        found = share(agreed, [10] * 4)
        assert 0 <= found.low < found.value < found.high <= 1


def test_longer_prompts_do_not_narrow_it_but_more_do() -> None:
    random = np.random.default_rng(0)
    agreed = random.integers(0, 11, 20).tolist()
    few, long = share(agreed, [10] * 20), share([100 * count for count in agreed], [1000] * 20)
    many = share(agreed * 16, [10] * 320)
    assert (long.low, long.high) == pytest.approx((few.low, few.high))
    assert (many.high - many.low) < (few.high - few.low) / 3


def test_it_holds_the_truth_as_often_as_it_says() -> None:
    """300 sets of 40 prompts whose own shares differ; the true share is inside in about 95 %."""
    random, inside = np.random.default_rng(1), 0
    for _ in range(300):
        agreed = random.binomial(20, random.beta(3, 2, 40))
        found = share(agreed.tolist(), [20] * 40)
        inside += found.low <= 0.6 <= found.high
    assert 0.90 <= inside / 300 <= 0.98
