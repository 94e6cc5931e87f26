"""First weights of a model that is to be trained from scratch."""

from __future__ import annotations

import math

import torch

from offramp.mixers.base import Mixer
from offramp.models.base import Model
from offramp.ops.norm import LayerNorm, RMSNorm

STD = 0.02  # GPT-2
OUTPUTS = ("o_proj.weight", "down_proj.weight", "out_proj.weight")


@torch.no_grad()
def init_weights(model: Model, seed: int) -> Model:
    """Fill every parameter, reproducibly on any device; the model itself is returned.

    Normal weights of GPT-2's size, those that write to the residual stream smaller with depth; then what each
    mixer says of its own (`Mixer.init_weights`).
    """
    generator = torch.Generator().manual_seed(seed)
    writers = sum(name.endswith(OUTPUTS) for name, _ in model.named_parameters())
    for name, weight in model.named_parameters():
        std = STD / math.sqrt(writers) if name.endswith(OUTPUTS) else STD
        if name.endswith("bias"):
            weight.zero_()
        else:
            weight.copy_(torch.randn(weight.shape, generator=generator) * std)
    for module in model.modules():
        if isinstance(module, RMSNorm | LayerNorm):
            module.weight.fill_(module.neutral)
        elif isinstance(module, Mixer):
            module.init_weights(generator)
    return model
