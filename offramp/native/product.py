"""Products of tokens with a quantised matrix: by the kernel where there is one here, else as it is defined.

Both sides are rounded: weights when they were quantised, each token to 127 steps on either side of zero, the largest
of its own numbers being one end. So a token's product is its own alone.

Shapes: N tokens, F rows, K columns.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from offramp.native.emit.linear import linear
from offramp.native.library import Library, find
from offramp.native.program import Builder, Register
from offramp.native.quantise import ROWS, QuantisedMatrix

TOGETHER = 256
"""Tokens that one call of the kernel takes: registers hold what it reads and gives."""
STEPS = 127
TINY = 3e38
"""No float: a token whose numbers are so small that 127 over the largest is beyond it reads as zeros."""

_OPERATORS = torch.library.Library("offramp", "DEF")
"""Torch sees one operator, whose operands and cost can be watched where tensors have no numbers."""
_OPERATORS.define(
    "quantised_linear(Tensor x, Tensor numbers, Tensor scales, int columns, int format) -> Tensor"
)


def product(x: Tensor, matrix: QuantisedMatrix) -> Tensor:
    """`[..., F]` of x `[..., K]`, in x's type."""
    made: Tensor = torch.ops.offramp.quantised_linear(
        x, matrix.numbers, matrix.scales, matrix.columns, matrix.format
    )
    return made


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each token's numbers as whole steps, and the size of its step `[..., 1]`, both float32."""
    x = x.float()
    most = x.abs().amax(-1, keepdim=True)
    inverse = torch.where(most > 0, STEPS / most, 0)
    seen = ~(inverse > TINY)
    inverse = torch.where(seen, inverse, 0)
    size = torch.where(seen, most / STEPS, 0)
    return (x * inverse).round(), torch.where(most.isfinite(), size, torch.nan)


def reference(x: Tensor, matrix: QuantisedMatrix) -> Tensor:
    """What the product is, in float32; some rows of the matrix at a time, whose floats are large."""
    steps, size = rounded(x)
    begins = range(0, len(matrix.scales), ROWS)
    parts = (matrix.rows(begin, begin + ROWS).dequantised() for begin in begins)
    return torch.cat([F.linear(steps, weight_FK) * size for weight_FK in parts], -1)


def _by_kernel(library: Library, x_NK: Tensor, matrix: QuantisedMatrix) -> Tensor:
    builder = Builder(library, room=min(TOGETHER, len(x_NK)))
    x = builder.register(matrix.columns)
    y = linear(builder, x, matrix)
    assert isinstance(y, Register)
    program = builder.build(x, [y])
    out_NF = torch.empty(len(x_NK), len(matrix.scales))
    for begin in range(0, len(x_NK), TOGETHER):
        some = x_NK[begin : begin + TOGETHER]
        out_NF[begin : begin + TOGETHER] = program.run(some, [0], [len(some)])[0]
    return out_NF


def _on_the_cpu(x: Tensor, numbers: Tensor, scales: Tensor, columns: int, format: int) -> Tensor:
    matrix, library = QuantisedMatrix(numbers, scales, columns, format), find()
    x_NK = x.detach().reshape(-1, columns)
    out = _by_kernel(library, x_NK, matrix) if library and len(x_NK) else reference(x_NK, matrix)
    return out.view(*x.shape[:-1], len(scales)).to(x.dtype)


def _of_shapes(x: Tensor, numbers: Tensor, scales: Tensor, columns: int, format: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(scales))


_OPERATORS.impl("quantised_linear", _on_the_cpu, "CPU")
_OPERATORS.impl("quantised_linear", _of_shapes, "Meta")


@register_flop_formula(torch.ops.offramp.quantised_linear)
def _flops(x: Any, numbers: Any, scales: Any, columns: int, *_: Any, **__: Any) -> int:
    """Of the shapes that flop formulas are given."""
    tokens = torch.Size(x[:-1]).numel()
    return 2 * tokens * int(scales[0]) * columns
