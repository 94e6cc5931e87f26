"""The windows of a recurrence's convolution, moved on when tokens become final."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

from torch import Tensor

from offramp.native.program import Builder


class Shift(Structure):
    """See shift.c."""

    _fields_ = [
        ("tape", c_void_p),
        ("slot_bytes", c_int64),
        ("bytes", c_int64),
        ("window", c_int64),
    ]


def shift(to: Builder, tape: Tensor, window: int) -> None:
    """Each row's tape `[S, window + provisional, C]` moves on by as many inputs as the call has tokens of it."""
    size = tape.element_size()
    assert tape.stride(2) == 1
    to.add("shift", Shift(to.keep(tape), tape.stride(0) * size, tape.stride(1) * size, window))
