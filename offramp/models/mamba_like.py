"""What the Mamba families share in Hugging Face's layout: blocks of a norm and a mixer, no MLP, no positions.

Shapes: R rows, T tokens, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from offramp.mixers.base import Mixer
from offramp.models.base import Block, Family, Model, ModelConfig, head_over
from offramp.models.rawconfig import (
    LONGEST,
    flag,
    positive_float,
    positive_int,
    require,
    shared_fields,
    shared_json,
)
from offramp.ops.norm import RMSNorm, at_least_float32

CONTEXT_LENGTH = 1 << 20
"""The architecture has no limit and its config no field for one; this only bounds counters."""
MOST_SMALL = 1 << 10
"""For sizes that multiply widths: state, convolution, expansion. Published models stay at 256 and below."""
NORM_EPS = "layer_norm_epsilon"


@dataclass(frozen=True)
class MambaLikeConfig(ModelConfig):
    state_size: int
    taps: int
    bias: bool
    conv_bias: bool
    residual_in_fp32: bool


class WideEmbedding(nn.Embedding):
    """Starts the residual stream in float32, whatever the weights' type (config.json's residual_in_fp32)."""

    def forward(self, tokens_RT: Tensor) -> Tensor:
        return at_least_float32(super().forward(tokens_RT))


class MambaLike(Family):
    """tied, state_size: what a config.json means that does not say tie_word_embeddings or state_size."""

    tied: ClassVar[bool]
    state_size: ClassVar[int]

    @abstractmethod
    def mixer(self, config: Any) -> Mixer:
        """One block's mixer."""

    def fields(self, raw: dict[str, Any]) -> dict[str, Any]:
        """MambaLikeConfig's fields. Raises CheckpointError naming one that is not supported."""
        require(raw, "hidden_act", "silu")
        said = {
            NORM_EPS: positive_float(raw, NORM_EPS, 1e-5),
            "tie_word_embeddings": flag(raw, "tie_word_embeddings", self.tied),
        }
        return {
            **shared_fields(raw | said, NORM_EPS),
            "context_length": positive_int(raw, "max_position_embeddings", CONTEXT_LENGTH, LONGEST),
            "state_size": positive_int(raw, "state_size", self.state_size, MOST_SMALL),
            "taps": positive_int(raw, "conv_kernel", 4, MOST_SMALL),
            "bias": flag(raw, "use_bias", False),
            "conv_bias": flag(raw, "use_conv_bias", True),
            "residual_in_fp32": flag(raw, "residual_in_fp32", True),
        }

    def config_to(self, config: Any) -> dict[str, Any]:
        return {
            **shared_json(config, NORM_EPS),
            "hidden_act": "silu",
            "state_size": config.state_size,
            "conv_kernel": config.taps,
            "use_bias": config.bias,
            "use_conv_bias": config.conv_bias,
            "residual_in_fp32": config.residual_in_fp32,
        }

    def build(self, config: Any) -> Model:
        kind = WideEmbedding if config.residual_in_fp32 else nn.Embedding
        embed = kind(config.vocab_size, config.hidden_size)
        norms = [RMSNorm(config.hidden_size, config.norm_eps) for _ in range(config.num_blocks + 1)]
        blocks = [Block(norm, self.mixer(config), None, None) for norm in norms[:-1]]
        return Model(config, embed, blocks, norms[-1], head_over(embed, config))

    def weight_name(self, name: str) -> str:
        top = {"embed.weight": "backbone.embeddings.weight", "norm.weight": "backbone.norm_f.weight"}
        if name.startswith("head."):
            return name.replace("head.", "lm_head.", 1)
        return top.get(name) or "backbone." + name.replace("blocks.", "layers.", 1)
