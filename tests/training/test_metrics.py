"""Metrics on cases small enough to count by hand."""

from __future__ import annotations

import itertools

import pytest
import torch

from offramp.training.metrics import auroc, gate_metrics, threshold_for

VALUES = torch.tensor([0.9, 0.8, 0.6, 0.5, 0.4, 0.1])
LABELS = torch.tensor([True, False, True, True, False, False])


def test_counts() -> None:
    found = gate_metrics(VALUES, LABELS, agreed_N=torch.tensor([True] * 3 + [False] * 3))
    assert found.accuracy == pytest.approx(4 / 6)  # 0.5 is not greater than 0.5: that one stays, wrongly
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 / 3)
    assert (found.positive_rate, found.leave_rate, found.agreement) == (0.5, 0.5, 0.5)


def test_undefined_is_none() -> None:
    none_leaves = gate_metrics(torch.zeros(3), torch.zeros(3, dtype=torch.bool), torch.ones(3))
    assert none_leaves.precision is None and none_leaves.recall is None and none_leaves.auroc is None
    assert none_leaves.accuracy == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_share_of_ordered_pairs(seed: int) -> None:
    torch.manual_seed(seed)
    values, labels = torch.randint(0, 4, (30,)) / 4, torch.rand(30) < 0.4
    pairs = list(itertools.product(values[labels].tolist(), values[~labels].tolist()))
    expected = sum((p > n) + 0.5 * (p == n) for p, n in pairs) / len(pairs)
    assert auroc(values, labels) == pytest.approx(expected)


def test_auroc_extremes() -> None:
    labels = torch.tensor([False, False, True, True])
    assert auroc(torch.tensor([0.1, 0.2, 0.3, 0.4]), labels) == 1.0
    assert auroc(torch.tensor([0.4, 0.3, 0.2, 0.1]), labels) == 0.0
    assert auroc(torch.full((4,), 0.5), labels) == 0.5


@pytest.mark.parametrize(
    ("precision", "threshold"), [(1.0, 0.8), (0.75, 0.4), (0.6, 0.1), (0.5, 0.0), (0.0, 0.0)]
)
def test_threshold_is_the_lowest_that_is_precise_enough(precision: float, threshold: float) -> None:
    found = threshold_for(VALUES, LABELS, precision)
    assert found == pytest.approx(threshold)
    leaves = VALUES > found
    assert LABELS[leaves].float().mean() >= precision


def test_no_threshold_is_precise_enough() -> None:
    assert threshold_for(torch.tensor([0.9, 0.1]), torch.tensor([False, False]), 0.5) == 1.0
