"""Weights of 8 or 4 bits in blocks of 32, each block with a scale of its own.

The scales are bfloat16: half of float32's bytes (9 bytes in 8 against 17 in 16, of 8-bit weights), converted by a
shift on every processor, and without float16's narrow range, below which the scales of small weights would fall. A
block's numbers are rounded with the scale as it was rounded, so that nothing is lost but a little of its step.

Shapes: F rows, K columns, B blocks of a row (an even number), padded with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.errors import CheckpointError
from offramp.native.structures import I4, I8, Matrix

NAMES = {I8: "int8", I4: "int4"}
BLOCK = 32
PAIR = 2 * BLOCK
SCALE = torch.bfloat16
ROWS = 4096  # quantised at a time: float32 copies of a whole head would be large


@dataclass(frozen=True)
class QuantisedMatrix:
    """numbers `[F, 32 B]` int8, or `[F, 16 B]` uint8: two numbers a byte, 8 too high, a pair of blocks' first in the
    low halves of 32 bytes and second in the high. scales `[F, B]`."""

    numbers: Tensor
    scales: Tensor
    columns: int
    format: int

    @property
    def name(self) -> str:
        """int8 or int4."""
        return NAMES[self.format]

    def matrix(self) -> Matrix:
        """As kernels read it, where it lies."""
        rows, blocks = self.scales.shape
        data, scales = self.numbers.data_ptr(), self.scales.data_ptr()
        return Matrix(data, scales, rows, self.columns, blocks * BLOCK, self.format)

    def rows(self, begin: int, end: int) -> QuantisedMatrix:
        """Some of the rows, in the same memory."""
        return QuantisedMatrix(self.numbers[begin:end], self.scales[begin:end], self.columns, self.format)

    def picked(self, rows_R: Tensor) -> QuantisedMatrix:
        """A copy of the rows of these numbers."""
        return QuantisedMatrix(self.numbers[rows_R], self.scales[rows_R], self.columns, self.format)

    def dequantised(self) -> Tensor:
        """The weights `[F, K]` in float32 that products are made with."""
        numbers = self.numbers if self.format == I8 else _unpacked(self.numbers)
        weights = numbers.float().unflatten(1, (-1, BLOCK)) * self.scales.float()[:, :, None]
        return weights.flatten(1)[:, : self.columns].contiguous()

    @property
    def bytes(self) -> int:
        return self.numbers.nbytes + self.scales.nbytes


def row_bytes(columns: int, format: int) -> int:
    """Of one row, its scales included."""
    blocks = _padded(columns) // BLOCK
    return blocks * (BLOCK // (1 if format == I8 else 2) + SCALE.itemsize)


def shapes(rows: int, columns: int, format: int) -> dict[str, tuple[tuple[int, int], torch.dtype]]:
    """Shape and type of the tensors that such a matrix is kept as."""
    width = _padded(columns)
    numbers = (width, torch.int8) if format == I8 else (width // 2, torch.uint8)
    return {"numbers": ((rows, numbers[0]), numbers[1]), "scales": ((rows, width // BLOCK), SCALE)}


def _padded(columns: int) -> int:
    return -(-columns // PAIR) * PAIR


def quantise(weight_FK: Tensor, format: int, name: str = "weights") -> QuantisedMatrix:
    """To `I8` or `I4`. Raises CheckpointError, by that name, for weights that are not finite."""
    assert format in (I8, I4)
    parts = [_quantised(rows.detach().float(), format, name) for rows in weight_FK.split(ROWS)]
    numbers, scales = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return QuantisedMatrix(numbers, scales, weight_FK.shape[1], format)


def _quantised(weight_FK: Tensor, format: int, name: str) -> tuple[Tensor, Tensor]:
    if not weight_FK.isfinite().all():
        raise CheckpointError(f"{name} hold NaN or infinity and cannot be quantised; check the checkpoint.")
    padded = F.pad(weight_FK, (0, -weight_FK.shape[1] % PAIR))
    blocks_FBW = padded.unflatten(1, (-1, BLOCK))
    most_FB = blocks_FBW.gather(2, blocks_FBW.abs().argmax(2, keepdim=True)).squeeze(2)
    # Four bits hold -8 but not 8: the largest weight, whatever its sign, is the one at -8.
    scales_FB = (most_FB.abs() / 127 if format == I8 else most_FB / -8).to(SCALE)
    inverse_FB = torch.where(scales_FB == 0, 0, 1 / scales_FB.float()).nan_to_num(posinf=0, neginf=0)
    steps = (blocks_FBW * inverse_FB[:, :, None]).round().flatten(1)
    if format == I8:
        return steps.clamp(-127, 127).to(torch.int8), scales_FB
    return _packed(steps.clamp(-8, 7)), scales_FB


def _packed(steps: Tensor) -> Tensor:
    """`[F, 32 B]` in -8..7 to bytes `[F, 16 B]`."""
    first, second = (steps + 8).to(torch.uint8).unflatten(1, (-1, 2, BLOCK)).unbind(2)
    return (first | second << 4).flatten(1)


def _unpacked(numbers: Tensor) -> Tensor:
    """What `_packed` took."""
    halves = numbers.unflatten(1, (-1, BLOCK))
    return (torch.stack([halves & 15, halves >> 4], dim=2).to(torch.int8) - 8).flatten(1)
