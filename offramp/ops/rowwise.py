"""Elementwise functions whose bits do not depend on where a row lies in its tensor.

PyTorch's CPU kernels run a vector loop over the flattened tensor and a scalar one over its end, and exp and
log1p differ between the two in the last bit. They also split tensors of GRAIN elements and more between
threads, anywhere. So rows are made whole vectors long, and what would be split is handed over in parts of fewer
elements, or of one row.

Shapes: T rows, C elements a row.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

LANES = 64  # a multiple of two vectors of every CPU type PyTorch has kernels for, float32 and float64
GRAIN = 32768  # at::internal::GRAIN_SIZE


def rowwise(function: Callable[[Tensor], Tensor], x_TC: Tensor) -> Tensor:
    """function(x), elementwise, where each row's bits depend on that row alone."""
    if x_TC.device.type != "cpu":  # one thread an element: exact as it is
        return function(x_TC)
    width = x_TC.shape[1]
    padded_TC = F.pad(x_TC, (0, -width % LANES)) if width % LANES else x_TC.contiguous()
    if padded_TC.numel() < GRAIN:
        return function(padded_TC)[:, :width]
    together = max(1, (GRAIN - 1) // padded_TC.shape[1])
    return torch.cat([function(part) for part in padded_TC.split(together)])[:, :width]
