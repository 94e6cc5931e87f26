"""First weights: reproducible, sane, and enough to start learning from."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from random_models import raw_config

from offramp.models.base import Model
from offramp.models.families import all_families, family_for
from offramp.models.initial import init_weights

MODEL_TYPES = sorted(name for family in all_families() for name in family.model_types)


def fresh(model_type: str, seed: int, **fields: Any) -> Model:
    family = family_for(model_type)
    raw = raw_config(model_type) | {"vocab_size": 50} | fields
    return init_weights(family.build(family.config_from(raw)), seed)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_reproducible(model_type: str) -> None:
    one, same, other = (dict(fresh(model_type, seed).named_parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(weight, same[name]) for name, weight in one.items())
    assert not all(torch.equal(weight, other[name]) for name, weight in one.items())
    assert all(torch.isfinite(weight).all() for weight in one.values())


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("tied", [False, True])
def test_starts_near_uniform_and_learns(model_type: str, tied: bool) -> None:
    model = fresh(model_type, 0, tie_word_embeddings=tied)
    tokens = torch.randint(0, 50, (2, 40), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert abs(losses[0] - math.log(50)) < 0.3 and losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_autocast_trains_in_bfloat16(model_type: str) -> None:
    model = fresh(model_type, 0)
    tokens = torch.randint(0, 50, (2, 70), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens)
    assert (logits.float() - model(tokens)).abs().max() < 0.05
    logits.float().logsumexp(-1).sum().backward()
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in model.parameters())


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_config_survives_its_json(model_type: str) -> None:
    config, family = fresh(model_type, 0).config, family_for(model_type)
    assert family.config_from(family.config_to(config)) == config


def test_mamba2_steps_begin_in_their_range() -> None:
    model = fresh("mamba2", 0)
    dt = torch.nn.functional.softplus(model.get_parameter("blocks.0.mixer.dt_bias"))
    A = model.get_parameter("blocks.0.mixer.A_log").exp()
    assert 1e-3 <= dt.min() and dt.max() <= 0.1 and 1 <= A.min() and A.max() <= 16
