"""Norms of each token's numbers, in groups by themselves."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int64, c_void_p

from torch import Tensor

from offramp.native.emit.columns import Columns, columns
from offramp.native.program import Builder, Register


class Norm(Structure):
    """See norm.c."""

    rounded: Columns
    _fields_ = [
        ("x", Columns),
        ("out", Columns),
        ("z", Columns),
        ("rounded", Columns),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("groups", c_int64),
        ("width", c_int64),
        ("shared", c_int64),
        ("centred", c_int64),
        ("format", c_int64),
        ("eps", c_double),
    ]

    def also_rounds(self, x: Columns, width: int, format: int, into: Columns) -> bool:
        if self.rounded.stride or (self.groups, self.width) != (1, width) or bytes(self.out) != bytes(x):
            return False
        self.rounded, self.format = into, format
        return True


def rms_norm(
    builder: Builder,
    x: Register | Columns,
    weight: Tensor | None,
    eps: float,
    width: int | None = None,
    out: Register | Columns | None = None,
) -> Register | Columns:
    """RMS norm of `width` columns, as many as there are weights by default, times weight if there is one.

    For a norm by 1 + weight (Gemma) that sum is to be given, in float32. out may be x.
    """
    width = _width(weight, width)
    out = builder.register(width) if out is None else out
    _add(builder, Norm(columns(x), columns(out), groups=1, width=width, eps=eps), weight)
    return out


def layer_norm(
    builder: Builder, x: Register | Columns, weight: Tensor, bias: Tensor | None, eps: float
) -> Register:
    out = builder.register(len(weight))
    _add(
        builder, Norm(columns(x), columns(out), groups=1, width=len(weight), centred=1, eps=eps), weight, bias
    )
    return out


def head_norm(builder: Builder, x: Register | Columns, weight: Tensor, heads: int, eps: float) -> None:
    """RMS norm of each head's numbers in their place `[heads * K]`, all times one weight `[K]`."""
    arguments = Norm(columns(x), columns(x), groups=heads, width=len(weight), shared=1, eps=eps)
    _add(builder, arguments, weight)


def gated_group_norm(
    builder: Builder,
    y: Register | Columns,
    z: Register | Columns,
    weight: Tensor,
    groups: int,
    eps: float,
) -> Register:
    """RMS norm of y * silu(z) over each of `groups` groups of columns by itself, times weight (Mamba-2)."""
    out = builder.register(len(weight))
    arguments = Norm(
        columns(y), columns(out), columns(z), groups=groups, width=len(weight) // groups, eps=eps
    )
    _add(builder, arguments, weight)
    return out


def _width(weight: Tensor | None, width: int | None) -> int:
    if width is not None:
        return width
    assert weight is not None, "without a weight a norm is told its width"
    return len(weight)


def _add(builder: Builder, arguments: Norm, weight: Tensor | None, bias: Tensor | None = None) -> None:
    arguments.weight = None if weight is None else builder.floats(weight)
    arguments.bias = None if bias is None else builder.floats(bias)
    builder.add("norm", arguments)
