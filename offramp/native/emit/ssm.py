"""Mamba-2's recurrence over the states of its slots.

Shapes: S slots, H heads of P channels, G groups, N state.
"""

from __future__ import annotations

from ctypes import Structure, c_double, c_int64, c_void_p
from dataclasses import dataclass

from torch import Tensor

from offramp.native.emit.columns import Columns, columns
from offramp.native.program import Builder, Register


class Ssm(Structure):
    """See ssm.c."""

    _fields_ = [
        ("x", Columns),
        ("raw", Columns),
        ("out", Columns),
        ("bias", c_void_p),
        ("decay", c_void_p),
        ("skip", c_void_p),
        ("least", c_double),
        ("most", c_double),
        ("states", c_void_p),
        ("ring", c_void_p),
        ("heads", c_int64),
        ("size", c_int64),
        ("groups", c_int64),
        ("state", c_int64),
        ("part", c_int64),
    ]


@dataclass(frozen=True)
class SsmMemory:
    """The slots' states and the step sizes since the final ones; and the recurrence's weights, A negative."""

    states: Tensor  # [2, S, H, P, N]
    ring_dt: Tensor  # [S, 16, H]
    dt_bias: Tensor  # [H]
    A: Tensor  # [H]
    D: Tensor  # [H]
    dt_limit: tuple[float, float]
    groups: int


def run(builder: Builder, part: int, memory: SsmMemory, x: Register, raw: Columns) -> Register:
    """y `[N, H P]` of x, B and C side by side, as the convolution gives them, and raw step sizes `[N, H]`."""
    _, _, heads, size, _ = memory.states.shape
    out = builder.register(heads * size)
    _add(builder, part, memory, x, raw, columns(out))
    return out


def advance(builder: Builder, part: int, memory: SsmMemory, x: Register, raw: Columns) -> None:
    """The same without y."""
    _add(builder, part, memory, x, raw, columns(None))


def replay(builder: Builder, part: int, memory: SsmMemory, x: Register) -> None:
    """The same without y, with the step sizes that the ring holds."""
    _add(builder, part, memory, x, columns(None), columns(None))


def _add(builder: Builder, part: int, memory: SsmMemory, x: Register, raw: Columns, out: Columns) -> None:
    _, _, heads, size, state = memory.states.shape
    assert x.width == heads * size + 2 * memory.groups * state
    assert memory.states.is_contiguous() and memory.ring_dt.is_contiguous()
    arguments = Ssm(
        x=columns(x),
        raw=raw,
        out=out,
        bias=builder.floats(memory.dt_bias),
        decay=builder.floats(memory.A),
        skip=builder.floats(memory.D),
        least=memory.dt_limit[0],
        most=memory.dt_limit[1],
        states=builder.keep(memory.states),
        ring=builder.keep(memory.ring_dt),
        heads=heads,
        size=size,
        groups=memory.groups,
        state=state,
        part=part,
    )
    builder.add("ssm", arguments, "ssm_reads")
