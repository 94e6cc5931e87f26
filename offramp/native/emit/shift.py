"""The windows of a recurrence's convolution, moved on when tokens become final."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_int64, c_void_p
from typing import Any

from torch import Tensor

from offramp.native.program import Builder


class Window(Structure):
    """See shift.c."""

    _fields_ = [
        ("tape", c_void_p),
        ("slot_bytes", c_int64),
        ("bytes", c_int64),
        ("window", c_int64),
    ]


class Shift(Structure):
    """All windows of a program."""

    count: int
    windows: Any  # a pointer that is an array
    _fields_ = [("count", c_int64), ("windows", POINTER(Window))]

    def append(self, window: Window) -> None:
        windows = (Window * (self.count + 1))(*self.windows[: self.count], window)
        self.count, self.windows = len(windows), windows


def shift(to: Builder, tape: Tensor, window: int) -> None:
    """Each row's tape `[S, window + provisional, C]` moves on by as many inputs as the call has tokens of it.

    Behind another one it is part of that step.
    """
    size = tape.element_size()
    assert tape.stride(2) == 1
    step = to.last()
    if not isinstance(step, Shift):
        to.add("shift", step := Shift())
    step.append(Window(to.keep(tape), tape.stride(0) * size, tape.stride(1) * size, window))
