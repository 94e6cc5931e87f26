"""Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, and a window in the deeper blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from offramp.mixers.attention import Attention
from offramp.models.llama_like import FULL, SLIDING, LlamaLike, LlamaLikeConfig, windows


class Qwen2(LlamaLike):
    model_types = ("qwen2",)
    architecture = "Qwen2ForCausalLM"
    defaults = {"max_position_embeddings": 32768, "sliding_window": 4096, "max_window_layers": 28}

    def config_from(self, raw: dict[str, Any]) -> LlamaLikeConfig:
        raw = {**self.defaults, **raw, "mlp_bias": False}
        config = super().config_from(raw)
        window, full = windows(raw, config.num_blocks)
        return replace(config, window=window, full_blocks=full)

    def config_to(self, config: LlamaLikeConfig) -> dict[str, Any]:
        kinds = [
            FULL if config.window is None or index in config.full_blocks else SLIDING
            for index in range(config.num_blocks)
        ]
        return super().config_to(config) | {
            "use_sliding_window": config.window is not None,
            "sliding_window": config.window,
            "layer_types": kinds,
        }

    def attention(self, config: LlamaLikeConfig, index: int, **other: Any) -> Attention:
        return super().attention(config, index, **{"qkv_bias": True, "out_bias": False, **other})
