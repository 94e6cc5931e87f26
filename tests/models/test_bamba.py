"""Bamba's config: kinds of blocks, the published size, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from offramp.errors import CheckpointError
from offramp.models.families import family_for
from offramp.models.shapes import shapes_only

PUBLISHED: dict[str, Any] = dict(
    model_type="bamba",
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    attn_layer_indices=[9, 18, 27],
    num_attention_heads=32,
    num_key_value_heads=8,
    attn_rotary_emb=64,
    partial_rotary_factor=0.5,
    rope_theta=10000.0,
    rope_scaling=None,
    max_position_embeddings=4096,
    mamba_n_heads=128,
    mamba_d_head=64,
    mamba_d_state=128,
    mamba_n_groups=1,
    mamba_expand=2,
    mamba_d_conv=4,
    mamba_chunk_size=256,
    mamba_conv_bias=True,
    mamba_proj_bias=False,
    rms_norm_eps=1e-5,
    z_loss_coefficient=0.0,
    tie_word_embeddings=False,
)
"""ibm-ai-platform/Bamba-9B-v1 (v2 differs in data alone)."""


def test_the_published_model_has_its_published_size() -> None:
    """9.78B parameters, and the 19.56 GB of bfloat16 that lie on the hub."""
    family = family_for("bamba")
    config = family.config_from(PUBLISHED)
    with shapes_only():
        model = family.build(config)
    assert sum(weight.numel() for weight in model.parameters()) == 9_780_235_392
    assert [i for i, kind in enumerate(config.kinds) if kind == "attention"] == [9, 18, 27]


def test_kinds_may_be_listed() -> None:
    """As files of other versions spell them."""
    listed = ["linear_attention"] * 31 + ["full_attention"]
    config = family_for("bamba").config_from(PUBLISHED | dict(layers_block_type=listed))
    assert config.kinds == ("mamba2",) * 31 + ("attention",)
    config = family_for("bamba").config_from(PUBLISHED | dict(attn_layer_indices=None))
    assert config.kinds == ("mamba2",) * 32


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (dict(hidden_act="gelu"), "hidden_act"),
        (dict(attn_layer_indices=[32]), "attn_layer_indices must be block numbers from 0 to 31"),
        (dict(attn_layer_indices="all"), "attn_layer_indices"),
        (dict(layers_block_type=["moe"] * 32), "layers_block_type must be a list of 32 kinds"),
        (dict(mamba_n_heads=100), "mamba_n_heads 100 must divide"),
        (dict(mamba_n_groups=3), "mamba_n_groups 3"),
        (dict(mamba_d_head=32), "mamba_d_head"),
        (dict(num_key_value_heads=5), "cannot share 5"),
        (dict(attn_rotary_emb=128), "attn_rotary_emb"),
        (dict(partial_rotary_factor=1.0), "partial_rotary_factor"),
        (
            dict(rope_parameters={"rope_type": "default", "partial_rotary_factor": 1.5}),
            "partial_rotary_factor",
        ),
        (dict(time_step_limit=[2.0, 1.0]), "time_step_limit"),
    ],
)
def test_refusals_name_the_field(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        family_for("bamba").config_from(PUBLISHED | changed)
