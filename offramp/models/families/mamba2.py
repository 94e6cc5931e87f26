"""Mamba-2 in Hugging Face's layout, Mamba-Codestral included: blocks of a norm and a mixer, no MLP.

Shapes: R rows, T tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from offramp.errors import CheckpointError
from offramp.mixers.mamba2 import Mamba2 as Mamba2Mixer
from offramp.models.base import Block, Family, Model, ModelConfig
from offramp.models.rawconfig import (
    LONGEST,
    MOST_BLOCKS,
    flag,
    positive_float,
    positive_int,
    require,
    token_ids,
)
from offramp.ops.norm import RMSNorm, at_least_float32

CONTEXT_LENGTH = 1 << 20
"""The architecture has no limit and its config no field for one; this only bounds counters."""
MOST_SMALL = 1 << 10
"""For sizes that multiply widths: state, convolution, expansion. Published models stay at 256 and below."""


@dataclass(frozen=True)
class Mamba2Config(ModelConfig):
    expand: int
    head_dim: int
    state_size: int
    groups: int
    taps: int
    bias: bool
    conv_bias: bool
    residual_in_fp32: bool
    dt_limit: tuple[float, float]


class WideEmbedding(nn.Embedding):
    """Starts the residual stream in float32, whatever the weights' type (config.json's residual_in_fp32)."""

    def forward(self, tokens_RT: Tensor) -> Tensor:
        return at_least_float32(super().forward(tokens_RT))


class Mamba2(Family):
    model_types = ("mamba2",)

    def config_from(self, raw: dict[str, Any]) -> Mamba2Config:
        require(raw, "hidden_act", "silu")
        require(raw, "norm_before_gate", False)
        width, expand = positive_int(raw, "hidden_size"), positive_int(raw, "expand", 2, MOST_SMALL)
        head_dim, heads = positive_int(raw, "head_dim", 64), positive_int(raw, "num_heads", 128)
        groups = positive_int(raw, "n_groups", 8)
        if heads * head_dim != width * expand or heads % groups:
            raise CheckpointError(
                f"config.json: num_heads {heads} must be hidden_size {width} * expand {expand} / head_dim"
                f" {head_dim} and a multiple of n_groups {groups}"
            )
        return Mamba2Config(
            model_type=raw["model_type"],
            vocab_size=positive_int(raw, "vocab_size"),
            hidden_size=width,
            num_blocks=positive_int(raw, "num_hidden_layers", most=MOST_BLOCKS),
            context_length=positive_int(raw, "max_position_embeddings", CONTEXT_LENGTH, LONGEST),
            norm_eps=positive_float(raw, "layer_norm_epsilon", 1e-5),
            tie_embeddings=flag(raw, "tie_word_embeddings", False),
            bos_token_id=next(iter(token_ids(raw, "bos_token_id")), None),
            eos_token_ids=token_ids(raw, "eos_token_id"),
            expand=expand,
            head_dim=head_dim,
            state_size=positive_int(raw, "state_size", 128, MOST_SMALL),
            groups=groups,
            taps=positive_int(raw, "conv_kernel", 4, MOST_SMALL),
            bias=flag(raw, "use_bias", False),
            conv_bias=flag(raw, "use_conv_bias", True),
            residual_in_fp32=flag(raw, "residual_in_fp32", True),
            dt_limit=dt_limit(raw),
        )

    def config_to(self, config: Mamba2Config) -> dict[str, Any]:
        eos = list(config.eos_token_ids)
        raw: dict[str, Any] = {
            "architectures": ["Mamba2ForCausalLM"],
            "model_type": config.model_type,
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "num_hidden_layers": config.num_blocks,
            "layer_norm_epsilon": config.norm_eps,
            "expand": config.expand,
            "head_dim": config.head_dim,
            "num_heads": config.hidden_size * config.expand // config.head_dim,
            "state_size": config.state_size,
            "n_groups": config.groups,
            "conv_kernel": config.taps,
            "use_bias": config.bias,
            "use_conv_bias": config.conv_bias,
            "hidden_act": "silu",
            "residual_in_fp32": config.residual_in_fp32,
            "time_step_limit": list(config.dt_limit),
            "max_position_embeddings": config.context_length,
            "tie_word_embeddings": config.tie_embeddings,
            "bos_token_id": config.bos_token_id,
            "eos_token_id": eos[0] if len(eos) == 1 else eos or None,
        }
        return raw

    def build(self, config: Mamba2Config) -> Model:
        kind = WideEmbedding if config.residual_in_fp32 else nn.Embedding
        embed = kind(config.vocab_size, config.hidden_size)
        head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_embeddings:
            head.weight = embed.weight
        blocks = [_block(config) for _ in range(config.num_blocks)]
        return Model(config, embed, blocks, RMSNorm(config.hidden_size, config.norm_eps), head)

    def weight_name(self, name: str) -> str:
        top = {"embed.weight": "backbone.embeddings.weight", "norm.weight": "backbone.norm_f.weight"}
        if name.startswith("head."):
            return name.replace("head.", "lm_head.", 1)
        return top.get(name) or "backbone." + name.replace("blocks.", "layers.", 1)


def _block(config: Mamba2Config) -> Block:
    mixer = Mamba2Mixer(
        config.hidden_size,
        inner=config.hidden_size * config.expand,
        head_dim=config.head_dim,
        state=config.state_size,
        groups=config.groups,
        taps=config.taps,
        bias=config.bias,
        conv_bias=config.conv_bias,
        dt_limit=config.dt_limit,
        norm_eps=config.norm_eps,
    )
    return Block(RMSNorm(config.hidden_size, config.norm_eps), mixer, None, None)


def dt_limit(raw: dict[str, Any]) -> tuple[float, float]:
    """time_step_limit: two numbers; no upper end is written Infinity, "inf" or {"__float__": "Infinity"}."""
    value = raw.get("time_step_limit") or (0.0, float("inf"))
    try:
        low, high = (float(end["__float__"] if isinstance(end, dict) else end) for end in value)
    except (TypeError, ValueError, KeyError, OverflowError):
        low, high = 1.0, 0.0
    if not 0 <= low <= high:
        raise CheckpointError(
            f"config.json: time_step_limit must be two numbers, low and high, not {value!r}"
        )
    return low, high
