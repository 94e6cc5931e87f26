"""How GGUF stores numbers: plainly, or in blocks of 32 that share a scale (Q8_0)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

BLOCK = 32
"""Numbers that share a scale."""


class Kind(IntEnum):
    """ggml's numbers for them."""

    F32 = 0
    F16 = 1
    Q8_0 = 8
    BF16 = 30


PLAIN = {Kind.F32: torch.float32, Kind.F16: torch.float16, Kind.BF16: torch.bfloat16}
FILE_TYPES = {Kind.F32: 0, Kind.F16: 1, Kind.Q8_0: 7, Kind.BF16: 32}
"""llama.cpp's numbers for a file whose matrices are stored so."""


def encoded_bytes(shape: Sequence[int], kind: Kind) -> int:
    count = math.prod(shape)
    if kind is Kind.Q8_0:
        assert shape[-1] % BLOCK == 0
        return count // BLOCK * (2 + BLOCK)
    return count * PLAIN[kind].itemsize


def encoded(tensor: Tensor, kind: Kind) -> bytes:
    """The numbers as the file has them, row by row."""
    tensor = tensor.detach().cpu()
    if kind is Kind.Q8_0:
        return _q8_0(tensor.float().numpy().reshape(-1, BLOCK))
    return tensor.to(PLAIN[kind]).contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _q8_0(blocks_NB: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bytes:
    """Each block: its scale (float16), the largest magnitude over 127, then the numbers over it, rounded (int8)."""
    scale_N1 = np.abs(blocks_NB).max(1, keepdims=True) / np.float32(127)
    divisor_N1 = np.where(scale_N1 > 0, scale_N1, np.float32(1))
    stored = np.empty(len(blocks_NB), [("scale", "<f2"), ("numbers", "i1", BLOCK)])
    stored["scale"] = scale_N1[:, 0]
    stored["numbers"] = np.rint(blocks_NB / divisor_N1)
    return stored.tobytes()
