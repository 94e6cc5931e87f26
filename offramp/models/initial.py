"""First weights of a model that is to be trained from scratch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from offramp.mixers.mamba import Mamba
from offramp.mixers.mamba2 import Mamba2
from offramp.models.base import Model
from offramp.ops.norm import LayerNorm, RMSNorm

STD = 0.02  # GPT-2
DT_RANGE = (1e-3, 1e-1)  # Mamba-2's own code, as are A in 1..16 and D = 1
A_RANGE = (1.0, 16.0)
OUTPUTS = ("o_proj.weight", "down_proj.weight", "out_proj.weight")


@torch.no_grad()
def init_weights(model: Model, seed: int) -> Model:
    """Fill every parameter, reproducibly on any device; the model itself is returned.

    Normal weights of GPT-2's size, those that write to the residual stream smaller with depth.
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
        elif isinstance(module, Mamba2):
            _init_mamba2(module, generator)
        elif isinstance(module, Mamba):
            _init_mamba(module, generator)
    return model


def _init_mamba2(mixer: Mamba2, generator: torch.Generator) -> None:
    _init_conv(mixer.conv1d, generator)
    mixer.A_log.copy_(_uniform(mixer.A_log, A_RANGE, generator).log())
    _init_steps(mixer.dt_bias, generator)
    mixer.D.fill_(1.0)


def _init_mamba(mixer: Mamba, generator: torch.Generator) -> None:
    """As Mamba's own code: every channel decays by 1, 2, ..., N; what reads the step size keeps its variance."""
    _init_conv(mixer.conv1d, generator)
    mixer.A_log.copy_(torch.arange(1.0, mixer.state + 1).log())
    bound = mixer.rank**-0.5
    mixer.dt_proj.weight.copy_(_uniform(mixer.dt_proj.weight, (-bound, bound), generator))
    _init_steps(mixer.dt_proj.bias, generator)
    mixer.D.fill_(1.0)


def _init_steps(bias: Tensor, generator: torch.Generator) -> None:
    """Step sizes whose logarithms are evenly spread over DT_RANGE."""
    dt = _uniform(bias, (math.log(DT_RANGE[0]), math.log(DT_RANGE[1])), generator).exp()
    bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus's inverse


def _init_conv(conv: nn.Conv1d, generator: torch.Generator) -> None:
    bound = 1 / math.sqrt(conv.kernel_size[0])  # PyTorch's default for one channel a group
    conv.weight.copy_(_uniform(conv.weight, (-bound, bound), generator))
    if conv.bias is not None:
        conv.bias.copy_(_uniform(conv.bias, (-bound, bound), generator))


def _uniform(like: Tensor, ends: tuple[float, float], generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator) * (ends[1] - ends[0]) + ends[0]
