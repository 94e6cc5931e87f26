"""Products of matrices with tokens: one step for all that read the same tokens.

Shapes: N tokens, K columns read, F rows: outputs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_int64, c_void_p
from dataclasses import dataclass

from torch import Tensor

from offramp.native.emit.activation import activation_number
from offramp.native.emit.columns import Columns, columns
from offramp.native.emit.operand import Operand, operand, puts_rounded
from offramp.native.program import Builder, Register
from offramp.native.structures import Laid, Matrix, matrix

Weight = Tensor | Laid
"""`[F, K]`, of float32, bfloat16, or quantised. A slice of rows is another one."""


class Product(Structure):
    """See linear.c."""

    _fields_ = [
        ("weight", Matrix),
        ("gate", Matrix),
        ("bias", c_void_p),
        ("gate_bias", c_void_p),
        ("x", Columns),
        ("out", Columns),
        ("rounded", Columns),
        ("width", c_int64),
        ("activation", c_int64),
        ("add", c_int64),
    ]


class Linear(Structure):
    _fields_ = [("count", c_int64), ("products", POINTER(Product))]

    def also_rounds(self, x: Columns, width: int, format: int, into: Columns) -> bool:
        for product in self.products[: self.count]:
            if not product.rounded.stride and puts_rounded(
                product.out, product.weight.rows, x, width, format
            ):
                product.rounded, product.width = into, width
                return True
        return False


@dataclass(frozen=True)
class Map:
    """out = (out +) activation(weight x + bias), or (out +) activation(gate x + gate_bias) * (weight x + bias).

    Into a new register by default; out must not be x.
    """

    weight: Weight
    bias: Tensor | None = None
    activation: str = "none"
    gate: Weight | None = None
    gate_bias: Tensor | None = None
    out: Register | Columns | None = None
    add: bool = False


def linear(
    builder: Builder,
    x: Register | Columns | Operand,
    weight: Weight,
    bias: Tensor | None = None,
    activation: str = "none",
    out: Register | Columns | None = None,
    add: bool = False,
) -> Register | Columns:
    """(out +) activation(weight x + bias), `[N, F]`."""
    return linears(builder, x, [Map(weight, bias, activation, out=out, add=add)])[0]


def gated(
    builder: Builder,
    x: Register | Columns | Operand,
    gate: Weight,
    up: Weight,
    activation: str = "silu",
    gate_bias: Tensor | None = None,
    up_bias: Tensor | None = None,
) -> Register:
    """activation(gate x + gate_bias) * (up x + up_bias), `[N, F]`."""
    made = linears(builder, x, [Map(up, up_bias, activation, gate, gate_bias)])[0]
    assert isinstance(made, Register)
    return made


def linears(
    builder: Builder, x: Register | Columns | Operand, maps: Sequence[Map]
) -> list[Register | Columns]:
    """What each of the maps gives, all of them in one step; they are of one format and as many columns."""
    weights = [_matrix(builder, each.weight) for each in maps]
    assert len({(weight.format, weight.columns) for weight in weights}) == 1, "maps read the same operand"
    first = weights[0]
    side = x if isinstance(x, Operand) else operand(builder, x, first.columns, first.format)
    assert (side.format, side.columns) == (first.format, first.columns), "an operand of these weights' kind"
    outs = [
        builder.register(weight.rows) if each.out is None else each.out
        for each, weight in zip(maps, weights, strict=True)
    ]
    products = (Product * len(maps))(
        *(
            _product(builder, each, weight, side.read(), columns(out))
            for each, weight, out in zip(maps, weights, outs, strict=True)
        )
    )
    builder.kept.append(products)
    builder.add("linear", Linear(len(maps), ctypes.cast(products, POINTER(Product))), "linear_reads")
    return outs


def _product(builder: Builder, each: Map, weight: Matrix, x: Columns, out: Columns) -> Product:
    gate = Matrix() if each.gate is None else _matrix(builder, each.gate)
    assert each.gate is None or (gate.rows, gate.columns, gate.format) == (
        weight.rows,
        weight.columns,
        weight.format,
    ), "a gate's matrix is of the other one's kind"
    bias, gate_bias = (None if b is None else builder.floats(b) for b in (each.bias, each.gate_bias))
    number = activation_number(each.activation)
    return Product(weight, gate, bias, gate_bias, x, out, activation=number, add=int(each.add))


def _matrix(builder: Builder, weight: Weight) -> Matrix:
    builder.kept.append(weight)
    return weight.matrix() if isinstance(weight, Laid) else matrix(weight)
