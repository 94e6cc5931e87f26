"""Llama and Mistral: attention blocks with a gated MLP, in Hugging Face's layout.

Shapes: R rows, T tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from offramp.errors import CheckpointError
from offramp.mixers.attention import Attention
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
from offramp.ops.norm import RMSNorm
from offramp.ops.rope import Rope


@dataclass(frozen=True)
class LlamaConfig(ModelConfig):
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    window: int | None
    attention_bias: bool
    mlp_bias: bool


class GatedMLP(nn.Module):
    """down(silu(gate(x)) * up(x)), SwiGLU (arXiv 2002.05202)."""

    def __init__(self, width: int, inner: int, bias: bool) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=bias)
        self.up_proj = nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)

    def forward(self, x_RTD: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x_RTD)) * self.up_proj(x_RTD))


class Llama(Family):
    model_types = ("llama", "mistral")

    def config_from(self, raw: dict[str, Any]) -> LlamaConfig:
        require(raw, "hidden_act", "silu")
        width, heads = positive_int(raw, "hidden_size"), positive_int(raw, "num_attention_heads")
        mistral = raw["model_type"] == "mistral"
        window = raw.get("sliding_window", 4096) if mistral else None
        kv_heads = positive_int(raw, "num_key_value_heads", 8 if mistral else heads)
        if heads % kv_heads:
            raise CheckpointError(
                f"config.json: {heads} attention heads cannot share {kv_heads} key-value heads"
            )
        return LlamaConfig(
            model_type=raw["model_type"],
            vocab_size=positive_int(raw, "vocab_size"),
            hidden_size=width,
            num_blocks=positive_int(raw, "num_hidden_layers", most=MOST_BLOCKS),
            context_length=positive_int(
                raw, "max_position_embeddings", 131072 if mistral else 2048, most=LONGEST
            ),
            norm_eps=positive_float(raw, "rms_norm_eps", 1e-6),
            tie_embeddings=flag(raw, "tie_word_embeddings", False),
            bos_token_id=next(iter(token_ids(raw, "bos_token_id")), None),
            eos_token_ids=token_ids(raw, "eos_token_id"),
            intermediate_size=positive_int(raw, "intermediate_size"),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=_head_dim(raw, width, heads),
            rope_theta=_rope_theta(raw),
            window=None if window is None else positive_int(raw, "sliding_window", 4096, LONGEST),
            attention_bias=flag(raw, "attention_bias", False),
            mlp_bias=flag(raw, "mlp_bias", False),
        )

    def config_to(self, config: LlamaConfig) -> dict[str, Any]:
        family = {"llama": "Llama", "mistral": "Mistral"}[config.model_type]
        eos = list(config.eos_token_ids)
        raw = {
            "architectures": [f"{family}ForCausalLM"],
            "model_type": config.model_type,
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.num_blocks,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": config.context_length,
            "rms_norm_eps": config.norm_eps,
            "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
            "rope_theta": config.rope_theta,
            "tie_word_embeddings": config.tie_embeddings,
            "bos_token_id": config.bos_token_id,
            "eos_token_id": eos[0] if len(eos) == 1 else eos or None,
        }
        if config.model_type == "mistral":
            return raw | {"sliding_window": config.window}
        return raw | {"attention_bias": config.attention_bias, "mlp_bias": config.mlp_bias}

    def build(self, config: LlamaConfig) -> Model:
        embed = nn.Embedding(config.vocab_size, config.hidden_size)
        head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_embeddings:
            head.weight = embed.weight
        blocks = [_block(config) for _ in range(config.num_blocks)]
        return Model(config, embed, blocks, RMSNorm(config.hidden_size, config.norm_eps), head)

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


def _block(config: LlamaConfig) -> Block:
    mixer = Attention(
        config.hidden_size,
        config.heads,
        config.kv_heads,
        config.head_dim,
        rope=Rope(config.rope_theta),
        window=config.window,
        qkv_bias=config.attention_bias,
        out_bias=config.attention_bias,
    )
    mlp = GatedMLP(config.hidden_size, config.intermediate_size, config.mlp_bias)
    norm, mlp_norm = (RMSNorm(config.hidden_size, config.norm_eps) for _ in range(2))
    return Block(norm, mixer, mlp_norm, mlp)


def _head_dim(raw: dict[str, Any], width: int, heads: int) -> int:
    """head_dim, or an equal share of the width; even, since rotary positions turn pairs of dimensions."""
    if raw.get("head_dim") is None and heads > width:
        raise CheckpointError(f"config.json: {heads} attention heads cannot share a hidden_size of {width}")
    head_dim = positive_int(raw, "head_dim", width // heads)
    if head_dim % 2:
        raise CheckpointError(
            f"config.json: attention heads of {head_dim} dimensions (head_dim, or hidden_size {width} / "
            f"num_attention_heads {heads}) cannot be rotated: an even number is needed"
        )
    return head_dim


def _rope_theta(raw: dict[str, Any]) -> float:
    """From rope_parameters (newer) or rope_theta and rope_scaling; only plain rotations are supported."""
    for key in ("rope_parameters", "rope_scaling"):
        rope = raw.get(key) or {}
        if not isinstance(rope, dict):
            raise CheckpointError(f"config.json: {key} must be an object, not {rope!r}")
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise CheckpointError(f"config.json: {key} of type {kind!r} is not supported, only 'default'")
        if "rope_theta" in rope:
            return positive_float(rope, "rope_theta", 10000.0)
    return positive_float(raw, "rope_theta", 10000.0)
