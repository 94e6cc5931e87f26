"""Mistral: Llama whose tokens see a window back, in all blocks or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from offramp.models.llama_like import LlamaLike, LlamaLikeConfig
from offramp.models.rawconfig import LONGEST, positive_int

WINDOW = 4096
"""Where config.json has no sliding_window; null there means none."""


class Mistral(LlamaLike):
    model_types = ("mistral",)
    architecture = "MistralForCausalLM"
    defaults = {"num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": WINDOW}

    def config_from(self, raw: dict[str, Any]) -> LlamaLikeConfig:
        raw = {**self.defaults, **raw, "attention_bias": False, "mlp_bias": False}
        window = raw["sliding_window"]
        window = None if window is None else positive_int(raw, "sliding_window", most=LONGEST)
        return replace(super().config_from(raw), window=window)

    def config_to(self, config: LlamaLikeConfig) -> dict[str, Any]:
        return super().config_to(config) | {"sliding_window": config.window}
