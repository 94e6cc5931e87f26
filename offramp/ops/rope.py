"""Rotary positions (RoFormer, arXiv 2104.09864) in the half-split order of Hugging Face's Llama.

Shapes: T tokens, H heads, K head dim, L table length.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rope_table(length: int, head_dim: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines `[L, K]` of positions 0..L-1, float64: rounding to the model's type comes last."""
    half = torch.arange(0, head_dim, 2, dtype=torch.float64, device=device) / head_dim
    angle_LK = torch.arange(length, dtype=torch.float64, device=device)[:, None] * theta ** -half.repeat(2)
    return angle_LK.cos(), angle_LK.sin()


def rotate(x_THK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """x `[..., T, H, K]` turned by the angles of its tokens, in x's dtype."""
    left, right = x_THK.chunk(2, dim=-1)
    turned = torch.cat((-right, left), dim=-1)
    return x_THK * cos_TK[:, None].to(x_THK.dtype) + turned * sin_TK[:, None].to(x_THK.dtype)


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
