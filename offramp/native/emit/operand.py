"""Operands: a token's side of products with matrices that are not float32, rounded to what those are read with."""

from __future__ import annotations

from ctypes import Structure, c_int64
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from offramp.native.emit.columns import Columns, columns
from offramp.native.program import Builder, Register
from offramp.native.structures import BF16, F32

STEP, SCALE = 64, 16
"""An operand's numbers are a multiple of the first; behind them lies its scale, with room of the second."""


@runtime_checkable
class Rounding(Protocol):
    """Arguments of a step that can also write what it makes as an operand."""

    def also_rounds(self, x: Columns, width: int, format: int, into: Columns) -> bool:
        """Whether it makes x, of whose columns these are the first `width`, and can; then it will."""


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

    What made x rounds it too, where it can and is the step before; otherwise this is a step of its own, except for
    float32.
    """
    exact = columns(x)
    if format == F32:
        return Operand(exact, width, format, None)
    register = builder.register(room_of(width) + SCALE)
    into, made = columns(register), builder.last()
    if not (isinstance(made, Rounding) and made.also_rounds(exact, width, format, into)):
        builder.add("operand", OperandArguments(exact, into, width, format))
    return Operand(exact, width, format, register)


def room_of(width: int) -> int:
    """Of an operand's numbers with the zeros behind them."""
    return -(-width // STEP) * STEP


def puts_rounded(out: Columns, made: int, x: Columns, width: int, format: int) -> bool:
    """Whether what puts its `made` numbers one by one into `out` makes the whole operand, zeros included."""
    return format == BF16 and bytes(out) == bytes(x) and made >= room_of(width)
