"""What is done to each number of a token by itself, and what is learned for its position."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int64

from torch import Tensor

from offramp.native.emit.activation import activation_number
from offramp.native.emit.columns import Columns, columns
from offramp.native.program import Builder, Register
from offramp.native.structures import Matrix, matrix


class Elementwise(Structure):
    """out = (out +) factor * activation(x) * y; see elementwise.c."""

    _fields_ = [
        ("x", Columns),
        ("y", Columns),
        ("out", Columns),
        ("width", c_int64),
        ("activation", c_int64),
        ("add", c_int64),
        ("factor", c_double),
    ]


class Positions(Structure):
    _fields_ = [("table", Matrix), ("out", Columns), ("part", c_int64)]


def elementwise(
    builder: Builder,
    x: Register | Columns,
    width: int,
    activation: str = "none",
    factor: float = 1.0,
    times: Register | Columns | None = None,
    out: Register | Columns | None = None,
    add: bool = False,
) -> Register | Columns:
    """out = (out +) factor * activation(x) * times, of `width` columns; into a new register by default.

    So it is a copy, a sum, a scaling, a product and an activation. out may be x.
    """
    assert out is not None or not add, "to a new register nothing is added"
    out = builder.register(width) if out is None else out
    number = activation_number(activation)
    builder.add(
        "elementwise",
        Elementwise(columns(x), columns(times), columns(out), width, number, int(add), factor),
    )
    return out


def add_positions(builder: Builder, x: Register, table: Tensor, part: int) -> None:
    """x += table[position], a row `[D]` for each position; behind the table's end its last. part: whose marks say where
    the rows' tokens stand."""
    builder.keep(table)
    builder.add("positions", Positions(matrix(table), columns(x), part))
