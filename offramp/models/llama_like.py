"""Llama and what descends from it: attention blocks with rotary positions and a gated MLP, in Hugging Face's layout.

A family of this kind is a short subclass: what config.json may leave out, the fields it adds, the parts it makes
otherwise.

Shapes: R rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from offramp.errors import CheckpointError
from offramp.mixers.attention import Attention
from offramp.models.base import Block, Family, Model, ModelConfig, head_over
from offramp.models.mlp import GatedMLP
from offramp.models.rawconfig import (
    LONGEST,
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
from offramp.ops.rope_scaling import Scaling

FULL, SLIDING = "full_attention", "sliding_attention"
"""How config.json's layer_types calls blocks without and with a window."""


@dataclass(frozen=True)
class LlamaLikeConfig(ModelConfig):
    """window: how many positions a token sees back, itself included, but in the blocks of `full_blocks`."""

    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    window: int | None
    attention_bias: bool
    mlp_bias: bool
    scaling: Scaling | None = None
    full_blocks: tuple[int, ...] = ()

    @property
    def rope(self) -> Rope:
        return Rope(self.rope_theta, scaling=self.scaling)


class LlamaLike(Family):
    """architecture: the class in transformers. defaults: what a config.json that leaves a field out means."""

    architecture: ClassVar[str]
    defaults: ClassVar[Mapping[str, Any]] = {}
    activation: ClassVar[str] = "silu"

    def config_from(self, raw: dict[str, Any]) -> LlamaLikeConfig:
        raw = {"max_position_embeddings": 2048, **self.defaults, **raw}
        require(raw, "hidden_act", self.activation)
        sizes = head_sizes(raw)
        rope = rope_from(raw, sizes["head_dim"])
        if rope.share != 1:
            raise CheckpointError(
                f"config.json: partial_rotary_factor = {rope.share} is not supported for"
                f" {raw['model_type']!r}, only 1"
            )
        return LlamaLikeConfig(
            **shared_fields(raw),
            **sizes,
            context_length=context_length(raw, rope),
            intermediate_size=positive_int(raw, "intermediate_size"),
            rope_theta=rope.theta,
            scaling=rope.scaling,
            window=None,
            attention_bias=flag(raw, "attention_bias", False),
            mlp_bias=flag(raw, "mlp_bias", False),
        )

    def config_to(self, config: LlamaLikeConfig) -> dict[str, Any]:
        return {
            "architectures": [self.architecture],
            **shared_json(config),
            "intermediate_size": config.intermediate_size,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_dim,
            "hidden_act": self.activation,
            **rope_to(config.rope),
        }

    def build(self, config: LlamaLikeConfig) -> Model:
        embed = self.embedding(config)
        blocks = [self.block(config, index) for index in range(config.num_blocks)]
        return Model(config, embed, blocks, self.norm(config.hidden_size, config), head_over(embed, config))

    def block(self, config: LlamaLikeConfig, index: int) -> Block:
        norm, mlp_norm = (self.norm(config.hidden_size, config) for _ in range(2))
        return Block(norm, self.attention(config, index), mlp_norm, self.mlp(config))

    def embedding(self, config: LlamaLikeConfig) -> nn.Embedding:
        return nn.Embedding(config.vocab_size, config.hidden_size)

    def norm(self, width: int, config: LlamaLikeConfig) -> nn.Module:
        return RMSNorm(width, config.norm_eps)

    def attention(self, config: LlamaLikeConfig, index: int, **other: Any) -> Attention:
        """The mixer of block `index`. other: arguments of Attention that differ from Llama's."""
        arguments: dict[str, Any] = {
            "rope": config.rope,
            "window": None if index in config.full_blocks else config.window,
            "qkv_bias": config.attention_bias,
            "out_bias": config.attention_bias,
        }
        sizes = (config.hidden_size, config.heads, config.kv_heads, config.head_dim)
        return Attention(*sizes, **(arguments | other))

    def mlp(self, config: LlamaLikeConfig) -> nn.Module:
        return GatedMLP(config.hidden_size, config.intermediate_size, config.mlp_bias)

    def weight_name(self, name: str) -> str:
        if name.startswith("head."):
            return name.replace("head.", "lm_head.", 1)
        for ours, theirs in _NAMES:
            name = name.replace(ours, theirs)
        return "model." + name


# In this order: a norm of a block before the last norm of the model, which keeps its name.
_NAMES = (
    ("embed.", "embed_tokens."),
    ("blocks.", "layers."),
    (".mixer.", ".self_attn."),
    (".norm.", ".input_layernorm."),
    (".mlp_norm.", ".post_attention_layernorm."),
)


def windows(raw: dict[str, Any], blocks: int) -> tuple[int | None, tuple[int, ...]]:
    """The window and the blocks it does not hold for, of layer_types or of max_window_layers (Qwen).

    Raises CheckpointError for kinds of attention that are not supported.
    """
    if not flag(raw, "use_sliding_window", False) or raw.get("sliding_window") is None:
        return None, ()
    first = positive_int(raw, "max_window_layers", blocks, LONGEST) if raw.get("max_window_layers") else 0
    kinds = raw.get("layer_types") or [FULL if index < first else SLIDING for index in range(blocks)]
    if not isinstance(kinds, list) or len(kinds) != blocks or not all(k in (FULL, SLIDING) for k in kinds):
        raise CheckpointError(
            f"config.json: layer_types must say {FULL!r} or {SLIDING!r} for each of {blocks} blocks, not {kinds!r}"
        )
    full = tuple(index for index, kind in enumerate(kinds) if kind == FULL)
    if len(full) == blocks:
        return None, ()
    return positive_int(raw, "sliding_window", most=LONGEST), full
