"""Mamba-1's recurrence over the states of its slots.

Shapes: S slots, E channels, N state.
"""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p
from dataclasses import dataclass

from torch import Tensor

from offramp.native.emit.columns import Columns, columns
from offramp.native.emit.operand import puts_rounded
from offramp.native.program import Builder, Register


class Scan(Structure):
    """See scan.c."""

    _fields_ = [
        ("u", Columns),
        ("raw", Columns),
        ("B", Columns),
        ("C", Columns),
        ("z", Columns),
        ("out", Columns),
        ("rounded", Columns),
        ("bias", c_void_p),
        ("decay", c_void_p),
        ("skip", c_void_p),
        ("states", c_void_p),
        ("ring_u", c_void_p),
        ("ring_dt", c_void_p),
        ("ring_B", c_void_p),
        ("channels", c_int64),
        ("state", c_int64),
        ("part", c_int64),
    ]

    def also_rounds(self, x: Columns, width: int, format: int, into: Columns) -> bool:
        whole = width == self.channels and puts_rounded(self.out, self.channels, x, width, format)
        if whole:
            self.rounded = into
        return whole


@dataclass(frozen=True)
class ScanMemory:
    """The slots' states and what drove them since the final ones; and the recurrence's weights, A negative."""

    states: Tensor  # [2, S, E, N]
    ring_u: Tensor  # [S, 16, E]
    ring_dt: Tensor  # [S, 16, E]
    ring_B: Tensor  # [S, 16, N]
    dt_bias: Tensor | None  # [E]
    A: Tensor  # [E, N]
    D: Tensor  # [E]


@dataclass(frozen=True)
class Drive:
    """What tokens bring: u `[N, E]`, step sizes before their bias and softplus `[N, E]`, B `[N, N]`."""

    u: Columns
    raw: Columns
    B: Columns


def run(
    builder: Builder, part: int, memory: ScanMemory, drive: Drive, C: Columns, z: Columns | None
) -> Register:
    """y `[N, E]`, times silu(z) if there is a z `[N, E]`. C `[N, N]` reads the states."""
    out = builder.register(memory.states.shape[2])
    none = columns(None)
    _add(builder, part, memory, drive, (C, none if z is None else z, columns(out)))
    return out


def advance(builder: Builder, part: int, memory: ScanMemory, drive: Drive) -> None:
    """The same without y."""
    none = columns(None)
    _add(builder, part, memory, drive, (none, none, none))


def replay(builder: Builder, part: int, memory: ScanMemory) -> None:
    """The same without y, driven by what the rings hold."""
    none = columns(None)
    _add(builder, part, memory, Drive(none, none, none), (none, none, none))


def _add(
    builder: Builder, part: int, memory: ScanMemory, drive: Drive, read: tuple[Columns, Columns, Columns]
) -> None:
    """read: C, z, out."""
    rings = (memory.ring_u, memory.ring_dt, memory.ring_B)
    assert all(x.is_contiguous() for x in (memory.states, *rings))
    C, z, out = read
    ring_u, ring_dt, ring_B = (builder.keep(ring) for ring in rings)
    arguments = Scan(
        u=drive.u,
        raw=drive.raw,
        B=drive.B,
        C=C,
        z=z,
        out=out,
        bias=None if memory.dt_bias is None else builder.floats(memory.dt_bias),
        decay=builder.floats(memory.A),
        skip=builder.floats(memory.D),
        states=builder.keep(memory.states),
        ring_u=ring_u,
        ring_dt=ring_dt,
        ring_B=ring_B,
        channels=memory.states.shape[2],
        state=memory.states.shape[3],
        part=part,
    )
    builder.add("scan", arguments)
