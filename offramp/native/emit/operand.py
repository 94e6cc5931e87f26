"""Operands: a token's side of products with matrices that are not float32, rounded to what those are read with."""

from __future__ import annotations

from ctypes import Structure, c_int64
from dataclasses import dataclass

from offramp.native.emit.columns import Columns, columns
from offramp.native.emit.norm import Norm
from offramp.native.program import Builder, Register
from offramp.native.structures import F32

STEP, SCALE = 64, 16
"""An operand's numbers are a multiple of the first; behind them lies its scale, with room of the second."""


class OperandArguments(Structure):
    _fields_ = [("x", Columns), ("out", Columns), ("columns", c_int64), ("format", c_int64)]


@dataclass(frozen=True)
class Operand:
    """What some products read of each token: `columns` numbers of `exact`, in `register` rounded for `format`.

    It holds until `exact` is written again.
    """

    exact: Columns
    columns: int
    format: int
    register: Register | None

    def read(self) -> Columns:
        return self.exact if self.register is None else columns(self.register)


def operand(builder: Builder, x: Register | Columns, width: int, format: int) -> Operand:
    """x's first `width` columns as products with matrices of that format read them.

    What a norm has just written it rounds itself; otherwise this is a step of its own, except for float32.
    """
    exact = columns(x)
    if format == F32:
        return Operand(exact, width, format, None)
    register = builder.register(-(-width // STEP) * STEP + SCALE)
    if not _norm_rounds(builder, exact, width, format, register):
        builder.add("operand", OperandArguments(exact, columns(register), width, format))
    return Operand(exact, width, format, register)


def _norm_rounds(builder: Builder, x: Columns, width: int, format: int, into: Register) -> bool:
    """Whether the step before is the norm that wrote x, as one group; then it rounds too."""
    norm = builder.steps[-1][1] if builder.steps else None
    if not isinstance(norm, Norm) or norm.rounded.stride or (norm.groups, norm.width) != (1, width):
        return False
    if bytes(norm.out) != bytes(x):
        return False
    norm.rounded, norm.format = columns(into), format
    return True
