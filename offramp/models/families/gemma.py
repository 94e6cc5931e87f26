"""Gemma 1: Llama with norms that scale by 1 + weight, scaled embeddings and GELU in the MLP.

Shapes: R rows, T tokens, D width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from offramp.models.llama_like import LlamaLike, LlamaLikeConfig
from offramp.models.mlp import GatedMLP, gelu_tanh
from offramp.ops.norm import CentredRMSNorm


class ScaledEmbedding(nn.Embedding):
    """Times the square root of the width, rounded to the weights' type as in Google's code."""

    def forward(self, tokens_RT: Tensor) -> Tensor:
        scale = self.weight.new_tensor(self.embedding_dim**0.5)
        return super().forward(tokens_RT) * scale


class Gemma(LlamaLike):
    model_types = ("gemma",)
    architecture = "GemmaForCausalLM"
    activation = "gelu_pytorch_tanh"
    defaults = {
        "num_key_value_heads": 16,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    }

    def config_from(self, raw: dict[str, Any]) -> LlamaLikeConfig:
        # The first files say "gelu" and mean its tanh form, which is all the models were trained with.
        legacy = raw.get("hidden_act") in (None, "gelu")
        raw = {**raw, "mlp_bias": False} | ({"hidden_act": self.activation} if legacy else {})
        return super().config_from(raw)

    def config_to(self, config: LlamaLikeConfig) -> dict[str, Any]:
        return super().config_to(config) | {"attention_bias": config.attention_bias}

    def embedding(self, config: LlamaLikeConfig) -> nn.Embedding:
        return ScaledEmbedding(config.vocab_size, config.hidden_size)

    def norm(self, width: int, config: LlamaLikeConfig) -> nn.Module:
        return CentredRMSNorm(width, config.norm_eps)

    def mlp(self, config: LlamaLikeConfig) -> nn.Module:
        return GatedMLP(config.hidden_size, config.intermediate_size, False, gelu_tanh)
