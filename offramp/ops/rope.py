"""Rotary positions (RoFormer, arXiv 2104.09864) in the half-split order of Hugging Face's Llama.

Shapes: T tokens, H heads, K head dim, L table length, F turned dimensions of a head (F <= K).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.ops.rope_scaling import Scaling, plain_rates


@dataclass(frozen=True)
class Rope:
    """How positions turn a head. share: of the head's dimensions, the first ones (GPT-NeoX, Bamba: less than all)."""

    theta: float = 10000.0
    share: float = 1.0
    scaling: Scaling | None = None

    def turned(self, head_dim: int) -> int:
        """F: how many of a head's dimensions are turned."""
        return int(head_dim * self.share)

    @property
    def amplitude(self) -> float:
        """What cosines and sines are multiplied by: YaRN's attention factor, otherwise 1."""
        return 1.0 if self.scaling is None else self.scaling.amplitude

    def table(self, length: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosines and sines `[L, F]` of positions 0..L-1, float64: rounding to the model's type comes last."""
        size = self.turned(head_dim)
        positions_L = torch.arange(length, dtype=torch.float64, device=device)
        if self.scaling is None:
            rates = plain_rates(self.theta, size, device)
        else:
            rates = self.scaling.rates(self.theta, size, positions_L)
        angle_LF = positions_L[:, None] * torch.cat((rates, rates), dim=-1)
        return angle_LF.cos() * self.amplitude, angle_LF.sin() * self.amplitude

    def rate_naive(self, size: int, pair: int, position: int) -> float:
        """Radians a position by which a pair of dimensions turns at `position`."""
        if self.scaling is None:
            return float(self.theta ** (-2 * pair / size))
        return self.scaling.rate_naive(self.theta, size, pair, position)


PLAIN = Rope()
"""What every dimension is turned by where nothing else is asked for."""


def rotate(x_THK: Tensor, cos_TF: Tensor, sin_TF: Tensor) -> Tensor:
    """x `[..., T, H, K]`, its first F dimensions turned by the angles of its tokens, in x's dtype."""
    size = cos_TF.shape[-1]
    head_THF, rest = x_THK[..., :size], x_THK[..., size:]
    left, right = head_THF.chunk(2, dim=-1)
    turned = torch.cat((-right, left), dim=-1)
    out_THF = head_THF * cos_TF[:, None].to(x_THK.dtype) + turned * sin_TF[:, None].to(x_THK.dtype)
    return torch.cat((out_THF, rest), dim=-1) if rest.shape[-1] else out_THF


def rotate_naive(x_THK: Tensor, positions: list[int], rope: Rope) -> Tensor:
    """Pairs (k, k + F/2) as complex numbers, one token at a time."""
    size = rope.turned(x_THK.shape[-1])
    amplitude = torch.full((size // 2,), rope.amplitude, dtype=torch.float64)
    rows = []
    for x_HK, position in zip(x_THK, positions, strict=True):
        rates = torch.tensor(
            [rope.rate_naive(size, pair, position) for pair in range(size // 2)], dtype=torch.float64
        )
        pairs = torch.complex(x_HK[:, : size // 2].double(), x_HK[:, size // 2 : size].double())
        pairs = pairs * torch.polar(amplitude, rates * position)
        rows.append(torch.cat((pairs.real, pairs.imag, x_HK[:, size:].double()), dim=-1).to(x_THK.dtype))
    return torch.stack(rows)
