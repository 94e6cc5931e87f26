"""Rotary positions (RoFormer, arXiv 2104.09864) in the half-split order of Hugging Face's Llama.

Shapes: T tokens, H heads, K head dim, L table length, F turned dimensions of a head (F <= K).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rope:
    """How positions turn a head. share: of the head's dimensions, the first ones (GPT-NeoX, Bamba: less than all)."""

    theta: float = 10000.0
    share: float = 1.0

    def turned(self, head_dim: int) -> int:
        """F: how many of a head's dimensions are turned."""
        return int(head_dim * self.share)

    def table(self, length: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosines and sines `[L, F]` of positions 0..L-1, float64: rounding to the model's type comes last."""
        size = self.turned(head_dim)
        half = torch.arange(0, size, 2, dtype=torch.float64, device=device) / size
        rates_F = self.theta ** -half.repeat(2)
        angle_LF = torch.arange(length, dtype=torch.float64, device=device)[:, None] * rates_F
        return angle_LF.cos(), angle_LF.sin()


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


def rotate_naive(x_THK: Tensor, positions: list[int], theta: float) -> Tensor:
    """Pairs (k, k + K/2) as complex numbers, one token at a time."""
    half = x_THK.shape[-1] // 2
    rates = torch.tensor([theta ** (-k / half) for k in range(half)], dtype=torch.float64)
    rows = []
    for x_HK, position in zip(x_THK, positions, strict=True):
        pairs = torch.complex(x_HK[:, :half].double(), x_HK[:, half:].double())
        pairs = pairs * torch.polar(torch.ones(half, dtype=torch.float64), rates * position)
        rows.append(torch.cat((pairs.real, pairs.imag), dim=-1).to(x_THK.dtype))
    return torch.stack(rows)
