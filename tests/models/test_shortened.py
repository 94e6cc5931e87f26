"""A head of some of the vocabulary's rows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from offramp.models.base import Model, ModelConfig
from offramp.models.shortened import shortened
from offramp.ops.norm import RMSNorm

WIDTH, VOCABULARY = 16, 23
IDS = torch.tensor([2, 3, 7, 22], dtype=torch.int32)


def model_with(head: nn.Module) -> Model:
    config = ModelConfig("some", VOCABULARY, WIDTH, 0, 8, 1e-5, False, None, ())
    return Model(config, nn.Embedding(VOCABULARY, WIDTH), (), RMSNorm(WIDTH, 1e-5), head)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_the_head(bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = model_with(nn.Linear(WIDTH, VOCABULARY, bias=bias)).to(dtype).eval()
    short = shortened(model, IDS)
    assert short is not None and not short.training and short.config.vocab_size == len(IDS)
    assert short.norm is model.norm and len(short.blocks) == 0
    assert short.head.weight.nbytes == len(IDS) * WIDTH * dtype.itemsize
    assert not short.head.weight.requires_grad
    x_ND = torch.randn(5, WIDTH).to(dtype)
    assert torch.allclose(
        short.logits(x_ND), model.logits(x_ND)[:, IDS], rtol=1e-2 if dtype.itemsize == 2 else 1e-5
    )
    with torch.no_grad():
        model.head.weight.zero_()
    assert bool(short.head.weight.any())  # a copy: its rows lie together


def test_a_tied_head() -> None:
    head = nn.Linear(WIDTH, VOCABULARY, bias=False)
    model = model_with(head)
    head.weight = model.embed.weight
    short = shortened(model, IDS)
    assert short is not None and torch.equal(short.head.weight, model.embed.weight[IDS])


def test_without_numbers() -> None:
    with torch.device("meta"):
        model = model_with(nn.Linear(WIDTH, VOCABULARY, bias=False))
    short = shortened(model, IDS)
    assert short is not None and short.head.weight.is_meta and short.head.weight.shape == (4, WIDTH)


def test_other_heads_have_no_rows() -> None:
    class Twice(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    assert shortened(model_with(Twice(WIDTH, VOCABULARY)), IDS) is None
    assert shortened(model_with(nn.Identity()), IDS) is None
