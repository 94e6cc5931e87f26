"""First weights: reproducible, sane, and enough to start learning from."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from offramp.models.base import Model
from offramp.models.families import all_families, family_for
from offramp.models.initial import init_weights

RAW: dict[str, dict[str, Any]] = {
    "llama": dict(hidden_size=32, num_attention_heads=4, intermediate_size=48),
    "mistral": dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48),
    "mamba": dict(hidden_size=32, state_size=8),
    "falcon_mamba": dict(hidden_size=32, state_size=8),
    "qwen2": dict(hidden_size=32, num_attention_heads=4, intermediate_size=48),
    "qwen3": dict(hidden_size=32, num_attention_heads=4, intermediate_size=48, head_dim=8),
    "gemma": dict(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48, head_dim=8
    ),
    "gpt_neox": dict(hidden_size=32, num_attention_heads=4, intermediate_size=48),
    "gpt2": dict(hidden_size=32, num_attention_heads=4),
    "bamba": dict(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        attn_layer_indices=[1],
        max_position_embeddings=128,
        mamba_n_heads=8,
        mamba_d_head=8,
        mamba_d_state=16,
        mamba_n_groups=2,
    ),
    "mamba2": dict(hidden_size=32, num_heads=8, head_dim=8, state_size=16, n_groups=2),
}


def fresh(model_type: str, seed: int, **fields: Any) -> Model:
    raw = RAW[model_type] | {"model_type": model_type, "vocab_size": 50, "num_hidden_layers": 2} | fields
    family = family_for(model_type)
    return init_weights(family.build(family.config_from(raw)), seed)


def test_every_model_type_has_a_case() -> None:
    assert {name for family in all_families() for name in family.model_types} == set(RAW)


@pytest.mark.parametrize("model_type", RAW)
def test_reproducible(model_type: str) -> None:
    one, same, other = (dict(fresh(model_type, seed).named_parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(weight, same[name]) for name, weight in one.items())
    assert not all(torch.equal(weight, other[name]) for name, weight in one.items())
    assert all(torch.isfinite(weight).all() for weight in one.values())


@pytest.mark.parametrize("model_type", RAW)
@pytest.mark.parametrize("tied", [False, True])
def test_starts_near_uniform_and_learns(model_type: str, tied: bool) -> None:
    model = fresh(model_type, 0, tie_word_embeddings=tied)
    tokens = torch.randint(0, 50, (4, 70), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert abs(losses[0] - math.log(50)) < 0.3 and losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("model_type", RAW)
def test_autocast_trains_in_bfloat16(model_type: str) -> None:
    model = fresh(model_type, 0)
    tokens = torch.randint(0, 50, (2, 70), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens)
    assert (logits.float() - model(tokens)).abs().max() < 0.05
    logits.float().logsumexp(-1).sum().backward()
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in model.parameters())


@pytest.mark.parametrize("model_type", RAW)
def test_config_survives_its_json(model_type: str) -> None:
    config, family = fresh(model_type, 0).config, family_for(model_type)
    assert family.config_from(family.config_to(config)) == config


def test_mamba2_steps_begin_in_their_range() -> None:
    model = fresh("mamba2", 0)
    dt = torch.nn.functional.softplus(model.get_parameter("blocks.0.mixer.dt_bias"))
    A = model.get_parameter("blocks.0.mixer.A_log").exp()
    assert 1e-3 <= dt.min() and dt.max() <= 0.1 and 1 <= A.min() and A.max() <= 16
