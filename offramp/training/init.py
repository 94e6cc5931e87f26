"""Initial weights of a backbone trained from scratch, by parameter name."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from offramp.models.base import Model

STD = 0.02
RESIDUAL_OUTPUTS = ("o_proj.weight", "down_proj.weight", "out_proj.weight")
SHORTEST_STEP, LONGEST_STEP = 1e-3, 1e-1
LARGEST_DECAY = 16.0


@torch.no_grad()
def initialise(model: Model, seed: int) -> None:
    """Fill every parameter; the same seed gives the same weights on every device.

    Matrices: normal, std 0.02, those that write to the residual stream smaller by sqrt(2 * blocks) so that
    its variance does not grow with depth (GPT-2). A Mamba block's step sizes and decay rates as Mamba's authors
    draw them: steps log-uniform in [0.001, 0.1] after softplus, decays uniform in [1, 16].
    """
    generator = torch.Generator().manual_seed(seed)
    depth_scale = 1.0 / math.sqrt(2 * len(model.blocks))
    for name, parameter in model.named_parameters():
        value = _initial(name, parameter, generator)
        parameter.copy_(value * depth_scale if name.endswith(RESIDUAL_OUTPUTS) else value)


def _initial(name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    shape, leaf = parameter.shape, name.rpartition(".")[2]
    uniform = torch.rand(shape, generator=generator)
    if leaf == "A_log":
        return torch.log(1.0 + uniform * (LARGEST_DECAY - 1.0))
    if leaf == "dt_bias":
        step = torch.exp(math.log(SHORTEST_STEP) + uniform * math.log(LONGEST_STEP / SHORTEST_STEP))
        return step + torch.log(-torch.expm1(-step))  # softplus of this is `step`
    if "conv" in name:
        return (2.0 * uniform - 1.0) / math.sqrt(shape[-1] if parameter.ndim > 1 else 4)
    if leaf == "bias":
        return torch.zeros(shape)
    if parameter.ndim == 1:  # norms, and Mamba's skip weights D
        return torch.ones(shape)
    return torch.randn(shape, generator=generator) * STD
