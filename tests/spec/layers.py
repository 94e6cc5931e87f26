"""Stateless layers: linear, RMSNorm, SwiGLU. Each accepts one token [D] or a whole cell [T, D]."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def per_token(function: Callable[[Tensor], Tensor], x_TD: Tensor) -> Tensor:
    """Each token alone: no matrix product ever sees two tokens (design 4, row-exactness)."""
    return torch.stack([function(x_D) for x_D in x_TD])


@dataclass(eq=False)
class Linear:
    weight: Tensor  # [out, in]
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


@dataclass(eq=False)
class RMSNorm:
    weight: Tensor  # [D]
    eps: float = 1e-6

    def __call__(self, x: Tensor) -> Tensor:
        return self.weight * (x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt())


@dataclass(eq=False)
class SwiGLU:
    gate: Linear
    up: Linear
    down: Linear

    def __call__(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))
