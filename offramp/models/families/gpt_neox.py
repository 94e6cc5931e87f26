"""GPT-NeoX and Pythia: attention and MLP read the same residual stream, and positions turn a part of each head.

Shapes: R rows, T tokens, D width, H heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from offramp.mixers.attention import Attention
from offramp.models.base import Block, Family, Model, ModelConfig, head_over
from offramp.models.mlp import ACTIVATIONS, MLP
from offramp.models.rawconfig import flag, head_sizes, one_of, positive_int, shared_fields, shared_json
from offramp.models.ropeconfig import context_length, rope_from, rope_to
from offramp.ops.norm import LayerNorm
from offramp.ops.rope import Rope

SHARE = 0.25
"""Of a head's dimensions, where config.json has no rotary_pct."""


@dataclass(frozen=True)
class NeoXConfig(ModelConfig):
    intermediate_size: int
    heads: int
    head_dim: int
    rope: Rope
    attention_bias: bool
    parallel: bool
    activation: str


class ParallelBlock(Block):
    """x + mixer(norm(x)) + mlp(mlp_norm(x))."""

    def join(self, x_RTD: Tensor, mixed_RTD: Tensor) -> Tensor:
        assert self.mlp is not None and self.mlp_norm is not None
        return x_RTD + mixed_RTD + self.mlp(self.mlp_norm(x_RTD))


class GPTNeoX(Family):
    model_types = ("gpt_neox",)
    derived = (".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias")

    def config_from(self, raw: dict[str, Any]) -> NeoXConfig:
        older = {"rope_theta": raw.get("rotary_emb_base"), "partial_rotary_factor": raw.get("rotary_pct")}
        raw = {"max_position_embeddings": 2048} | older | raw
        sizes = head_sizes(raw | {"num_key_value_heads": None, "head_dim": None})
        rope = rope_from(raw, sizes["head_dim"], SHARE)
        return NeoXConfig(
            **shared_fields({"layer_norm_eps": 1e-5} | raw, "layer_norm_eps"),
            context_length=context_length(raw, rope),
            intermediate_size=positive_int(raw, "intermediate_size"),
            heads=sizes["heads"],
            head_dim=sizes["head_dim"],
            rope=rope,
            attention_bias=flag(raw, "attention_bias", True),
            parallel=flag(raw, "use_parallel_residual", True),
            activation=one_of(raw, "hidden_act", ACTIVATIONS, "gelu"),
        )

    def config_to(self, config: NeoXConfig) -> dict[str, Any]:
        return {
            "architectures": ["GPTNeoXForCausalLM"],
            **shared_json(config, "layer_norm_eps"),
            "intermediate_size": config.intermediate_size,
            "num_attention_heads": config.heads,
            "hidden_act": config.activation,
            "attention_bias": config.attention_bias,
            "use_parallel_residual": config.parallel,
            **rope_to(config.rope),
            "rotary_emb_base": config.rope.theta,
            "rotary_pct": config.rope.share,
        }

    def build(self, config: NeoXConfig) -> Model:
        width = config.hidden_size
        embed = nn.Embedding(config.vocab_size, width)
        blocks = [_block(config) for _ in range(config.num_blocks)]
        return Model(config, embed, blocks, LayerNorm(width, config.norm_eps), head_over(embed, config))

    def weight_name(self, name: str) -> str:
        if name.startswith("head."):
            return name.replace("head.", "embed_out.", 1)
        if name.startswith("norm."):
            return name.replace("norm.", "gpt_neox.final_layer_norm.", 1)
        for ours, theirs in _NAMES:
            name = name.replace(ours, theirs)
        return "gpt_neox." + name

    def join(self, stored: str, parts: Sequence[Tensor], config: NeoXConfig) -> Tensor:
        """Queries, keys and values lie head by head: `[H * 3 * K, ...]`."""
        if ".query_key_value." not in stored:
            return super().join(stored, parts, config)
        heads = [part.unflatten(0, (config.heads, config.head_dim)) for part in parts]
        return torch.stack(heads, dim=1).flatten(0, 2)

    def split(self, stored: str, whole: Tensor, config: NeoXConfig) -> Sequence[Tensor]:
        if ".query_key_value." not in stored:
            return super().split(stored, whole, config)
        heads = whole.unflatten(0, (config.heads, 3, config.head_dim))
        return [part.flatten(0, 1) for part in heads.unbind(1)]


_NAMES = (
    ("embed.", "embed_in."),
    ("blocks.", "layers."),
    (".mixer.q_proj.", ".attention.query_key_value."),
    (".mixer.k_proj.", ".attention.query_key_value."),
    (".mixer.v_proj.", ".attention.query_key_value."),
    (".mixer.o_proj.", ".attention.dense."),
    (".mlp.up_proj.", ".mlp.dense_h_to_4h."),
    (".mlp.down_proj.", ".mlp.dense_4h_to_h."),
    (".mlp_norm.", ".post_attention_layernorm."),
    (".norm.", ".input_layernorm."),
)


def _block(config: NeoXConfig) -> Block:
    width, bias = config.hidden_size, config.attention_bias
    mixer = Attention(width, config.heads, rope=config.rope, qkv_bias=bias, out_bias=bias)
    norm, mlp_norm = (LayerNorm(width, config.norm_eps) for _ in range(2))
    mlp = MLP(width, config.intermediate_size, ACTIVATIONS[config.activation])
    return (ParallelBlock if config.parallel else Block)(norm, mixer, mlp_norm, mlp)
