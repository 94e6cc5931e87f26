"""Bamba (IBM): Mamba-2 blocks with attention at a few depths, every block with a gated MLP, in Hugging Face's layout.

In a config a block's kind is one of `kinds`; config.json lists the attention blocks' numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from offramp.errors import CheckpointError
from offramp.mixers.attention import Attention
from offramp.mixers.base import Mixer
from offramp.mixers.mamba2 import Mamba2
from offramp.models.base import Block, Family, Model, ModelConfig, head_over
from offramp.models.families.mamba2 import dt_limit
from offramp.models.mamba_like import MOST_SMALL
from offramp.models.mlp import GatedMLP
from offramp.models.rawconfig import (
    MOST_BLOCKS,
    flag,
    head_sizes,
    positive_int,
    require,
    shared_fields,
    shared_json,
)
from offramp.models.ropeconfig import context_length, rope_from, rope_to
from offramp.ops.norm import RMSNorm
from offramp.ops.rope import Rope

Kind = Literal["attention", "mamba2"]
SPELLINGS: dict[str, Kind] = {
    "attention": "attention",
    "full_attention": "attention",
    "mamba": "mamba2",
    "linear_attention": "mamba2",
}
"""Kinds of blocks as layers_block_type spells them: older files, newer ones."""
ROTARY_SHARE = 0.5
"""Of an attention head's dimensions; transformers has it as a constant."""
ATTENTION_MAPS = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class BambaConfig(ModelConfig):
    kinds: tuple[Kind, ...]
    intermediate_size: int
    mlp_bias: bool
    heads: int
    kv_heads: int
    head_dim: int
    attention_bias: bool
    rope: Rope
    expand: int
    mamba_heads: int
    state_size: int
    groups: int
    taps: int
    mamba_bias: bool
    conv_bias: bool
    dt_limit: tuple[float, float]


class Bamba(Family):
    model_types = ("bamba",)
    block_lists = ("layer_types", "layers_block_type")
    block_numbers = ("attn_layer_indices",)

    def config_from(self, raw: dict[str, Any]) -> BambaConfig:
        """z_loss_coefficient and mamba_chunk_size are of training and of speed: whatever they say is right."""
        require(raw, "hidden_act", "silu")
        require(raw, "partial_rotary_factor", ROTARY_SHARE)
        kinds, sizes = _kinds(raw), head_sizes({"num_key_value_heads": 8} | raw)
        rope = rope_from(raw, sizes["head_dim"], ROTARY_SHARE)
        require(raw, "attn_rotary_emb", rope.turned(sizes["head_dim"]))
        config = BambaConfig(
            **shared_fields({"rms_norm_eps": 1e-5, "num_hidden_layers": len(kinds)} | raw),
            **sizes,
            context_length=context_length(raw, rope),
            kinds=kinds,
            intermediate_size=positive_int(raw, "intermediate_size"),
            mlp_bias=flag(raw, "mlp_bias", False),
            attention_bias=flag(raw, "attention_bias", False),
            rope=rope,
            expand=_small(raw, "mamba_expand", 2),
            mamba_heads=positive_int(raw, "mamba_n_heads", 128),
            state_size=_small(raw, "mamba_d_state", 256),
            groups=_small(raw, "mamba_n_groups", 1),
            taps=_small(raw, "mamba_d_conv", 4),
            mamba_bias=flag(raw, "mamba_proj_bias", False),
            conv_bias=flag(raw, "mamba_conv_bias", True),
            dt_limit=dt_limit(raw),
        )
        _check_mamba(raw, config)
        return config

    def config_to(self, config: BambaConfig) -> dict[str, Any]:
        rope = {key: value for key, value in rope_to(config.rope).items() if key != "partial_rotary_factor"}
        return {
            "architectures": ["BambaForCausalLM"],
            **shared_json(config),
            **rope,
            "intermediate_size": config.intermediate_size,
            "attn_layer_indices": [i for i, kind in enumerate(config.kinds) if kind == "attention"],
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_dim,
            "hidden_act": "silu",
            "attention_bias": config.attention_bias,
            "mlp_bias": config.mlp_bias,
            "mamba_expand": config.expand,
            "mamba_n_heads": config.mamba_heads,
            "mamba_d_head": config.hidden_size * config.expand // config.mamba_heads,
            "mamba_d_state": config.state_size,
            "mamba_n_groups": config.groups,
            "mamba_d_conv": config.taps,
            "mamba_proj_bias": config.mamba_bias,
            "mamba_conv_bias": config.conv_bias,
            "time_step_limit": list(config.dt_limit),
        }

    def build(self, config: BambaConfig) -> Model:
        embed = nn.Embedding(config.vocab_size, config.hidden_size)
        blocks = [_block(config, kind) for kind in config.kinds]
        norm = RMSNorm(config.hidden_size, config.norm_eps)
        return Model(config, embed, blocks, norm, head_over(embed, config))

    def weight_name(self, name: str) -> str:
        top = {
            "embed.weight": "model.embed_tokens.weight",
            "norm.weight": "model.final_layernorm.weight",
            "head.weight": "lm_head.weight",
        }
        if name in top:
            return top[name]
        blocks, number, part, rest = name.split(".", 3)
        return f"model.layers.{number}.{_part(part, rest)}.{rest}"


def _part(part: str, rest: str) -> str:
    """What the checkpoint calls a part of a block. The mixers share no parameter's name."""
    if part == "mixer":
        return "self_attn" if rest.split(".")[0] in ATTENTION_MAPS else "mamba"
    return {"norm": "input_layernorm", "mlp_norm": "pre_ff_layernorm", "mlp": "feed_forward"}[part]


def _block(config: BambaConfig, kind: Kind) -> Block:
    norm, mlp_norm = (RMSNorm(config.hidden_size, config.norm_eps) for _ in range(2))
    mlp = GatedMLP(config.hidden_size, config.intermediate_size, config.mlp_bias)
    return Block(norm, _attention(config) if kind == "attention" else _mamba(config), mlp_norm, mlp)


def _attention(config: BambaConfig) -> Mixer:
    return Attention(
        config.hidden_size,
        config.heads,
        config.kv_heads,
        config.head_dim,
        rope=config.rope,
        qkv_bias=config.attention_bias,
        out_bias=config.attention_bias,
    )


def _mamba(config: BambaConfig) -> Mixer:
    inner = config.hidden_size * config.expand
    return Mamba2(
        config.hidden_size,
        inner,
        head_dim=inner // config.mamba_heads,
        state=config.state_size,
        groups=config.groups,
        taps=config.taps,
        bias=config.mamba_bias,
        conv_bias=config.conv_bias,
        dt_limit=config.dt_limit,
        norm_eps=config.norm_eps,
    )


def _small(raw: dict[str, Any], key: str, default: int) -> int:
    return positive_int(raw, key, default, MOST_SMALL)


def _kinds(raw: dict[str, Any]) -> tuple[Kind, ...]:
    """Each block's kind, from attn_layer_indices (null: no attention) or layers_block_type (or layer_types)."""
    count = positive_int(raw, "num_hidden_layers", 32, MOST_BLOCKS)
    for key in ("layers_block_type", "layer_types"):
        if (listed := raw.get(key)) is not None:
            return _listed(key, listed, count)
    indices = raw.get("attn_layer_indices") or []
    fits = isinstance(indices, list) and all(isinstance(i, int) and 0 <= i < count for i in indices)
    if not fits or len(indices) > count:
        raise CheckpointError(
            f"config.json: attn_layer_indices must be block numbers from 0 to {count - 1}, not {indices!r}"
        )
    return tuple("attention" if i in indices else "mamba2" for i in range(count))


def _listed(key: str, listed: Any, count: int) -> tuple[Kind, ...]:
    fits = isinstance(listed, list) and len(listed) == count
    if not fits or not all(isinstance(name, str) and name in SPELLINGS for name in listed):
        raise CheckpointError(
            f"config.json: {key} must be a list of {count} kinds out of {', '.join(SPELLINGS)}, not {listed!r}"
        )
    return tuple(SPELLINGS[name] for name in listed)


def _check_mamba(raw: dict[str, Any], config: BambaConfig) -> None:
    """Raises CheckpointError for Mamba-2 heads that do not share the inner width and the groups evenly."""
    inner, heads = config.hidden_size * config.expand, config.mamba_heads
    if inner % heads or heads % config.groups:
        raise CheckpointError(
            f"config.json: mamba_n_heads {heads} must divide hidden_size {config.hidden_size} * mamba_expand"
            f" {config.expand} and be a multiple of mamba_n_groups {config.groups}"
        )
    if raw.get("mamba_d_head", "auto") != "auto":
        require(raw, "mamba_d_head", inner // heads)
