"""Labels against loops that follow the definitions word by word."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from offramp.errors import UnknownName, UsageError
from offramp.exits import labels

SMALL = st.integers(-2, 2).map(float)  # few values: ties everywhere
ROW = st.lists(SMALL, min_size=6, max_size=6)


def order(logits: list[float]) -> list[int]:
    """Ids from best to worst, ties by id."""
    return sorted(range(len(logits)), key=lambda token: (-logits[token], token))


@settings(deadline=None, max_examples=100)
@given(exit_row=ROW, full_row=ROW, k=st.integers(1, 7))
def test_labels_are_their_definitions(exit_row: list[float], full_row: list[float], k: int) -> None:
    exit_V, full_V = torch.tensor(exit_row), torch.tensor(full_row)
    best_exit, best_full = order(exit_row)[0], order(full_row)[0]
    assert labels.choice(exit_V) == best_exit
    assert labels.exact(exit_V, full_V, k) == (best_exit == best_full)
    assert labels.oracle_in_exit_topk(exit_V, full_V, k) == (best_full in order(exit_row)[:k])
    assert labels.exit_in_oracle_topk(exit_V, full_V, k) == (best_exit in order(full_row)[:k])


@settings(deadline=None, max_examples=50)
@given(exit_row=ROW, full_row=ROW)
def test_at_k_1_all_labels_are_exact(exit_row: list[float], full_row: list[float]) -> None:
    pair = torch.tensor(exit_row), torch.tensor(full_row)
    assert len({bool(label(*pair, 1)) for label in labels.LABELS.values()}) == 1


def test_the_two_directions_differ() -> None:
    exit_V, full_V = torch.tensor([3.0, 2.0, 1.0]), torch.tensor([1.0, 3.0, 2.0])
    assert labels.oracle_in_exit_topk(exit_V, full_V, 2) and not labels.exit_in_oracle_topk(exit_V, full_V, 2)


@pytest.mark.parametrize("chunk", [1, 4, 5, 1000])
def test_chunks_do_not_matter(chunk: int) -> None:
    torch.manual_seed(0)
    exits_RTD, full_RTD = [torch.randn(2, 5, 3) for _ in range(3)], torch.randn(2, 5, 3)
    head = torch.randn(7, 3)

    def logits(x: Tensor) -> Tensor:
        assert len(x) <= chunk
        return x @ head.T

    label = labels.find_label("exit_in_oracle_topk", 2)
    found, agreed = labels.label_positions(label, 2, exits_RTD, full_RTD, logits, chunk)
    assert found.shape == agreed.shape == (3, 2, 5)
    for e, exit_RTD in enumerate(exits_RTD):
        pair = exit_RTD @ head.T, full_RTD @ head.T
        assert torch.equal(found[e], labels.exit_in_oracle_topk(*pair, 2))
        assert torch.equal(agreed[e], labels.exact(*pair))


def test_only_after_last_block_reads_past_another_bridge() -> None:
    assert labels.through_last_block("after_last_block", bridge_borrows_last_block=False)
    assert not labels.through_last_block("exact", bridge_borrows_last_block=False)
    assert all(labels.through_last_block(name, bridge_borrows_last_block=True) for name in labels.LABELS)


def test_mistakes() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'exact'"):
        labels.find_label("exakt", 1)
    with pytest.raises(UsageError, match="k is 0"):
        labels.find_label("exact", 0)
