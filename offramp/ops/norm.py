"""RMSNorm, LayerNorm, and Mamba-2's gated RMSNorm over groups of channels.

Shapes: D width, E inner width (G groups of E / G channels).
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def at_least_float32(x: Tensor) -> Tensor:
    """x itself in float32 or float64; lower precision is raised to float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def rms_norm(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension (arXiv 1910.07467).

    Computed in float32 at least, given in weight's dtype.
    """
    if x.dtype != weight_D.dtype:  # else PyTorch raises what it computes with, and what it gives is wanted so
        x = at_least_float32(x)
    y = F.rms_norm(x, weight_D.shape, eps=eps)
    return y.to(weight_D.dtype) * weight_D


def rms_norm_naive(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    x = at_least_float32(x)
    return (x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)).to(weight_D.dtype) * weight_D


def layer_norm(x: Tensor, weight_D: Tensor, bias_D: Tensor, eps: float) -> Tensor:
    """(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias over the last dimension (arXiv 1607.06450).

    Computed in float32 at least, given in weight's dtype.
    """
    weight, bias = at_least_float32(weight_D), at_least_float32(bias_D)
    return F.layer_norm(at_least_float32(x), weight_D.shape, weight, bias, eps).to(weight_D.dtype)


def layer_norm_naive(x: Tensor, weight_D: Tensor, bias_D: Tensor, eps: float) -> Tensor:
    x = at_least_float32(x)
    centred = x - x.mean(-1, keepdim=True)
    y = centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + eps)
    return (y * weight_D + bias_D).to(weight_D.dtype)


def gated_group_norm(y: Tensor, z: Tensor, weight_E: Tensor, groups: int, eps: float) -> Tensor:
    """RMSNorm of y * silu(z), `[..., E]`, over each of `groups` groups of channels by itself.

    Mamba-2's output norm (arXiv 2405.21060), the gate before the norm. Computed in float32 at least, given in
    weight's dtype.
    """
    gated = at_least_float32(y) * F.silu(at_least_float32(z))
    grouped = gated.unflatten(-1, (groups, -1))
    normed = F.rms_norm(grouped, grouped.shape[-1:], eps=eps).flatten(-2)
    return normed.to(weight_E.dtype) * weight_E


def gated_group_norm_naive(y: Tensor, z: Tensor, weight_E: Tensor, groups: int, eps: float) -> Tensor:
    gated = at_least_float32(y) * at_least_float32(z) / (1 + torch.exp(-at_least_float32(z)))
    parts = gated.chunk(groups, dim=-1)
    normed = [part / torch.sqrt((part * part).mean(-1, keepdim=True) + eps) for part in parts]
    return torch.cat(normed, dim=-1).to(weight_E.dtype) * weight_E


class RMSNorm(nn.Module):
    """`rms_norm` with its weight. neutral: the weight of a norm that only norms."""

    neutral: ClassVar[float] = 1.0

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), self.neutral))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class CentredRMSNorm(RMSNorm):
    """RMSNorm that scales by 1 + weight (Gemma), in float32 at least before it is rounded to weight's dtype."""

    neutral = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, 1 + at_least_float32(self.weight), self.eps).to(self.weight.dtype)


class LayerNorm(nn.Module):
    """`layer_norm` with its weight and bias."""

    neutral: ClassVar[float] = 1.0

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias, self.eps)
