"""What a block computes for each token by itself.

Shapes: R rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

gelu_tanh: Callable[[Tensor], Tensor] = partial(F.gelu, approximate="tanh")
"""GELU by its tanh approximation: gelu_pytorch_tanh and gelu_new of config.json."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": F.relu,
    "silu": F.silu,
}
"""By config.json's names."""


class GatedMLP(nn.Module):
    """down(activation(gate(x)) * up(x)): SwiGLU by default (arXiv 2002.05202)."""

    def __init__(
        self, width: int, inner: int, bias: bool, activation: Callable[[Tensor], Tensor] = F.silu
    ) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=bias)
        self.up_proj = nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)
        self.activation = activation

    def forward(self, x_RTD: Tensor) -> Tensor:
        return self.down_proj(self.activation(self.gate_proj(x_RTD)) * self.up_proj(x_RTD))


class MLP(nn.Module):
    """down(activation(up(x))), with biases."""

    def __init__(self, width: int, inner: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up_proj = nn.Linear(width, inner)
        self.down_proj = nn.Linear(inner, width)
        self.activation = activation

    def forward(self, x_RTD: Tensor) -> Tensor:
        return self.down_proj(self.activation(self.up_proj(x_RTD)))
