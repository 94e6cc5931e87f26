"""Some columns of a register: what one product gave may be several things side by side."""

from __future__ import annotations

from ctypes import Structure, c_int64

from offramp.native.program import Register


class Columns(Structure):
    """From column `begin` of register `number`, which is `stride` wide; stride 0: there are none. See columns.h."""

    _fields_ = [("number", c_int64), ("begin", c_int64), ("stride", c_int64)]


def columns(x: Register | Columns | None, begin: int = 0) -> Columns:
    """Those of x from `begin` on; None: there are none."""
    if x is None:
        return Columns(0, 0, 0)
    if isinstance(x, Columns):
        return Columns(x.number, x.begin + begin, x.stride)
    return Columns(x.number, begin, x.width)
