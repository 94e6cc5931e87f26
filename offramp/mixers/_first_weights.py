"""First weights that mixers with a convolution and a state space share, as Mamba's own code draws them."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

DT_RANGE = (1e-3, 1e-1)


def init_steps(bias: Tensor, generator: Generator) -> None:
    """Step sizes whose logarithms are evenly spread over DT_RANGE."""
    dt = uniform(bias, (math.log(DT_RANGE[0]), math.log(DT_RANGE[1])), generator).exp()
    bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus's inverse


def init_conv(conv: nn.Conv1d, generator: Generator) -> None:
    """PyTorch's default for one channel a group."""
    bound = 1 / math.sqrt(conv.kernel_size[0])
    conv.weight.copy_(uniform(conv.weight, (-bound, bound), generator))
    if conv.bias is not None:
        conv.bias.copy_(uniform(conv.bias, (-bound, bound), generator))


def uniform(like: Tensor, ends: tuple[float, float], generator: Generator) -> Tensor:
    """Numbers between the ends, in the shape of `like`, on the generator's device."""
    return torch.rand(like.shape, generator=generator) * (ends[1] - ends[0]) + ends[0]
