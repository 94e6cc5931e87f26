"""Qwen3: Qwen2 with norms of each head's queries and keys in place of the biases."""

from __future__ import annotations

from typing import Any

from offramp.mixers.attention import Attention
from offramp.models.families.qwen2 import Qwen2
from offramp.models.llama_like import LlamaLikeConfig


class Qwen3(Qwen2):
    model_types = ("qwen3",)
    architecture = "Qwen3ForCausalLM"
    defaults = {**Qwen2.defaults, "head_dim": 128}

    def config_to(self, config: LlamaLikeConfig) -> dict[str, Any]:
        return super().config_to(config) | {"attention_bias": config.attention_bias}

    def attention(self, config: LlamaLikeConfig, index: int, **other: Any) -> Attention:
        bias = config.attention_bias
        return super().attention(
            config, index, qkv_bias=bias, out_bias=bias, head_norm=lambda width: self.norm(width, config)
        )
