"""What a joint run will take, by arithmetic: its weights are many times anything else's."""

from __future__ import annotations

from torch import nn

from offramp.data.documents import Documents
from offramp.models.base import Model
from offramp.training.joint.config import JointConfig
from offramp.training.joint.lora import targets_in

FLOAT = 4
"""Bytes: everything that learns, its gradients and its two moments are float32."""


def rows(model: Model, config: JointConfig, data: Documents) -> list[tuple[str, str]]:
    """Names and values for people; activations, which depend on the blocks, are not in them."""
    weights = sum(weight.numel() for weight in model.parameters())
    learning = _lora_weights(model, config) if config.lora_rank else weights
    frozen = weights + learning if config.lora_rank else weights
    epochs = config.steps * config.tokens_per_step / sum(map(len, data.training))
    return [
        ("trainable parameters", f"{learning:,}"),
        ("weights, gradients, moments", f"{FLOAT * (frozen + 3 * learning) / 2**20:,.1f} MiB"),
        ("disk", f"{FLOAT * 9 * learning / 2**20:,.1f} MiB for checkpoints, beside the result"),
        ("steps", f"{config.steps:,} ({epochs:.2g} times through the data)"),
    ]


def _lora_weights(model: Model, config: JointConfig) -> int:
    """Of A `[r, I]` and B `[O, r]` of every map that is changed."""
    targets = targets_in(model, config)
    maps = [part for name, part in model.blocks.named_modules() if name.rpartition(".")[2] in targets]
    linear = [part for part in maps if isinstance(part, nn.Linear)]
    return sum(config.lora_rank * (part.in_features + part.out_features) for part in linear)
