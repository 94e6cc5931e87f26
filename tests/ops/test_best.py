"""The best of logits: kernels against PyTorch in float64, rows alone against rows together, pieces of a vocabulary."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from offramp.native.library import find
from offramp.ops.best import Said, say_each, say_naive
from offramp.ops.gumbel import noise_key

VOCABS = (1, 15, 16, 63, 100, 4095, 4096, 4097, 12345)
HEATS = (0.0, 1.0, 0.7, 1e-6, 2.5)


def _rows(vocab: int) -> Tensor:
    """Plain ones, one with a tie for the best, one with tokens that cannot be chosen, one far from zero."""
    logits_NV = torch.randn(5, vocab, generator=torch.Generator().manual_seed(vocab)) * 3
    logits_NV[1, vocab // 2 :] = logits_NV[1].max()
    logits_NV[2, : vocab // 3] = -torch.inf
    logits_NV[3] += 1e4
    return logits_NV


@pytest.mark.skipif(find() is None, reason="the kernels were not built")
@pytest.mark.parametrize("vocab", VOCABS)
@pytest.mark.parametrize("heat", HEATS)
def test_kernels_say_what_pytorch_says(vocab: int, heat: float) -> None:
    logits_NV, heats, keys = _rows(vocab), [heat] * 5, [noise_key(3, position) for position in range(5)]
    given = [None, None, vocab - 1, 0, None]
    fast = say_each(logits_NV, heats, keys, given)
    naive = say_naive(logits_NV, heats, keys, given)
    for ours, theirs in zip(fast, naive, strict=True):
        assert ours is not None and theirs is not None
        assert ours.best == theirs.best
        assert ours.logprob == pytest.approx(theirs.logprob, rel=1e-6, abs=2e-6)


@pytest.mark.parametrize("vocab", VOCABS)
def test_a_row_says_the_same_alone_and_on_any_number_of_threads(vocab: int) -> None:
    logits_NV, keys = _rows(vocab), [noise_key(1, position) for position in range(5)]
    together = say_each(logits_NV, HEATS, keys, [None] * 5)
    library = find()
    before = library.threads if library else 1
    try:
        for threads in (1, 3):
            if library:
                library.threads = threads
            alone = [
                say_each(logits_NV[i : i + 1], HEATS[i : i + 1], keys[i : i + 1], [None])[0] for i in range(5)
            ]
            assert alone == together
    finally:
        if library:
            library.threads = before


@pytest.mark.parametrize("heat", [0.0, 0.8])
@pytest.mark.parametrize("at", [0, 4200, 4999])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_no_numbers_say_nothing(wrong: float, at: int, heat: float) -> None:
    logits_NV = torch.zeros(2, 5000)
    logits_NV[1, at] = wrong
    fine, broken = say_each(logits_NV, [heat] * 2, [1, 2], [None, 0])
    assert fine is not None and broken is None
    assert say_each(torch.full((1, 5000), -torch.inf), [heat], [1], [None]) == [None]


def test_a_tie_goes_to_the_lowest_id() -> None:
    logits_NV = torch.zeros(1, 9000)
    logits_NV[0, [4097, 8200]] = 1.0
    assert say_each(logits_NV, [0.0], [0], [None]) == [
        Said(4097, pytest.approx(1 - math.log(2 * math.e + 8998)))
    ]
