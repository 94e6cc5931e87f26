"""Llama 1 to 3.3 (and models that share its layout: SmolLM, TinyLlama, Yi, DeepSeek's first)."""

from __future__ import annotations

from typing import Any

from offramp.models.llama_like import LlamaLike, LlamaLikeConfig


class Llama(LlamaLike):
    model_types = ("llama",)
    architecture = "LlamaForCausalLM"

    def config_to(self, config: LlamaLikeConfig) -> dict[str, Any]:
        biases = {"attention_bias": config.attention_bias, "mlp_bias": config.mlp_bias}
        return super().config_to(config) | biases
