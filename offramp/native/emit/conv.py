"""The causal convolution before a recurrence: bias and silu included.

Shapes: S slots, C channels, W taps.
"""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p
from dataclasses import dataclass

from torch import Tensor

from offramp.native.emit.columns import Columns, columns
from offramp.native.emit.operand import puts_rounded
from offramp.native.program import Builder, Register
from offramp.native.structures import FORMATS

MOST_TAPS = 8


class Convolution(Structure):
    """See conv.c."""

    _fields_ = [
        ("x", Columns),
        ("out", Columns),
        ("rounded", Columns),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("tape", c_void_p),
        ("format", c_int64),
        ("channels", c_int64),
        ("taps", c_int64),
        ("length", c_int64),
        ("part", c_int64),
        ("wanted", c_int64),
    ]

    def also_rounds(self, x: Columns, width: int, format: int, into: Columns) -> bool:
        whole = width == self.wanted == self.channels
        whole = whole and puts_rounded(self.out, self.channels, x, width, format)
        if whole:
            self.rounded = into
        return whole


@dataclass(frozen=True)
class Tape:
    """The tokens' inputs of all slots, and what they meet. weight[:, -1] meets the token itself."""

    inputs: Tensor  # [S, length, C]
    weight: Tensor  # [C, W]
    bias: Tensor | None  # [C]


def convolve(
    builder: Builder, part: int, tape: Tape, x: Columns | None, wanted: int | None = None
) -> Register:
    """`[N, C]`: silu of the convolution of new inputs x `[N, C]`, which go onto the tape; None: those on it already.

    wanted: how many of the channels are, all by default; the others hold anything.
    """
    channels, taps = tape.weight.shape
    assert taps <= MOST_TAPS and tape.inputs.is_contiguous()
    out = builder.register(channels)
    arguments = Convolution(
        x=columns(None) if x is None else x,
        out=columns(out),
        weight=builder.floats(tape.weight.T),
        bias=None if tape.bias is None else builder.floats(tape.bias),
        tape=builder.keep(tape.inputs),
        format=FORMATS[tape.inputs.dtype],
        channels=channels,
        taps=taps,
        length=tape.inputs.shape[1],
        part=part,
        wanted=channels if wanted is None else wanted,
    )
    builder.add("convolve", arguments)
    return out
