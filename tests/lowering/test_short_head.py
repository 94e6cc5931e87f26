"""What drafts read of the head: bit for bit the full head's numbers for the tokens that are listed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from offramp.lowering.model import Head
from offramp.models.base import Model, ModelConfig
from offramp.models.shortened import shortened
from offramp.native.library import Library, load, runnable
from offramp.native.quantise import quantise
from offramp.native.quantised_weight import QuantisedWeight
from offramp.native.structures import I4, I8
from offramp.ops.norm import RMSNorm

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": I8, "int4": I4}

pytestmark = pytest.mark.skipif(not runnable(), reason="the kernels were not built here")


def model_of(vocabulary: int, width: int, form: str, bias: bool) -> Model:
    torch.manual_seed(vocabulary + width)
    config = ModelConfig("some", vocabulary, width, 0, 8, 1e-5, False, None, ())
    head, norm = nn.Linear(width, vocabulary, bias=bias), RMSNorm(width, 1e-5)
    kept = FORMATS[form]
    if isinstance(kept, torch.dtype):
        head, norm = head.to(kept), norm.to(kept)
    else:
        weight = QuantisedWeight(quantise(head.weight.detach(), kept, "head"))
        head.weight = nn.Parameter(weight, requires_grad=False)
    return Model(config, nn.Embedding(vocabulary, width), (), norm, head)


@pytest.fixture(params=runnable())
def library(request: pytest.FixtureRequest) -> Library:
    return load(request.param)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("vocabulary", "width", "kept", "bias"), [(1000, 64, 125, False), (331, 96, 37, True), (64, 32, 1, False)]
)
def test_the_listed_tokens_have_the_full_head_s_bits(
    library: Library, form: str, vocabulary: int, width: int, kept: int, bias: bool
) -> None:
    """Whatever other rows there are, and however many tokens and threads share the call."""
    model = model_of(vocabulary, width, form, bias)
    ids_K = torch.randperm(vocabulary)[:kept].sort().values
    short = shortened(model, ids_K.int())
    assert short is not None
    before = library.threads
    try:
        for threads, tokens in ((1, 1), (1, 3), (2, 16), (3, 17)):
            library.threads = threads
            x_ND = torch.randn(tokens, width)
            full_NV, short_NK = Head(library, model, width)(x_ND), Head(library, short, width)(x_ND)
            assert short_NK.shape == (tokens, kept) and torch.equal(short_NK, full_NV[:, ids_K])
    finally:
        library.threads = before
