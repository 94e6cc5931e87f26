"""The divergence and its gradient, made chunk by chunk, against autograd on everything at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from offramp.training.distil import divergences


@pytest.mark.parametrize("chunk", [1, 4, 5, 1000])
def test_value_and_gradient(chunk: int) -> None:
    torch.manual_seed(0)
    full_ND, head_VD = torch.randn(11, 6), torch.randn(9, 6)
    exits = [torch.randn(11, 6, requires_grad=True) for _ in range(3)]
    weights_EN = torch.randn(3, 11)

    def logits(x_ND: Tensor) -> Tensor:
        assert len(x_ND) <= chunk
        return x_ND @ head_VD.T

    values_EN = divergences(exits, full_ND, logits, chunk)
    mine = torch.autograd.grad((values_EN * weights_EN).sum(), exits)
    p_NV = (full_ND @ head_VD.T).softmax(-1)
    naive_EN = torch.stack(
        [(p_NV * (p_NV.log() - (exit_ND @ head_VD.T).log_softmax(-1))).sum(-1) for exit_ND in exits]
    )
    theirs = torch.autograd.grad((naive_EN * weights_EN).sum(), exits)
    torch.testing.assert_close(values_EN, naive_EN)
    for ours, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(ours, other)


def test_nothing_is_kept_where_no_gradient_is_wanted() -> None:
    values_EN = divergences([torch.randn(3, 2)], torch.randn(3, 2), lambda x: x)
    assert not values_EN.requires_grad and values_EN.shape == (1, 3)
    with torch.no_grad():
        assert not divergences(
            [torch.randn(3, 2, requires_grad=True)], torch.randn(3, 2), lambda x: x
        ).requires_grad
