"""A processor of logits decides for drafts and for the last segment alike, so `verify` stays the plain text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from random_models import tiny
from torch import Tensor

from offramp.engine.reference import reference
from offramp.engine.request import Request, Sampling
from offramp.engine.sampler import choose


def no_repeats(logits_V: Tensor, before: Sequence[int]) -> Tensor:
    """No token of the last six again."""
    return logits_V.index_fill(0, torch.tensor(before[-6:]), -torch.inf)


def test_it_comes_before_everything_else() -> None:
    logits = torch.tensor([3.0, 2.0, 1.0])
    sampling = Sampling(repetition_penalty=4.0, processor=no_repeats)
    assert choose(logits, [0], sampling).token == 1
    assert choose(logits, [0, 1], sampling).token == 2


@pytest.mark.parametrize("backbone", ["llama", "mamba2"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_verify_is_plain_decoding_with_the_same_processor(backbone: str, temperature: float) -> None:
    case = tiny(backbone, "linear", "none")
    sampling = Sampling(temperature=temperature, seed=5, processor=no_repeats)
    request = Request((3, 1, 4), sampling=sampling, max_tokens=40, ignore_eos=True)
    reply = case.engine().generate(request)
    assert reply.tokens == case.plain().generate(request).tokens
    assert reply.stats.drafts > reply.stats.accepted > 0
    tokens = (*request.prompt, *reply.tokens)
    assert all(tokens[i] not in tokens[max(0, i - 6) : i] for i in range(3, len(tokens)))
    free = Request(**{**vars(request), "sampling": Sampling(temperature=temperature, seed=5)})
    assert case.plain().generate(free).tokens != reply.tokens, "it must change something"


def test_the_oracle_uses_it_too() -> None:
    case = tiny("llama", "linear", "none")
    request = Request((3, 1, 4), max_tokens=12, sampling=Sampling(processor=no_repeats))
    expected = case.plain().generate(request).tokens
    assert tuple(token for token, _ in reference(case.model, (), request)) == expected
