"""Attention with the memory of its slots: new entries are written, then queries see what they may.

Shapes: S slots, L entries, H heads, G key-value heads, K head dim, F turned dimensions.
"""

from __future__ import annotations

from ctypes import Structure, c_double, c_int64, c_void_p
from dataclasses import dataclass

from torch import Tensor

from offramp.native.emit.columns import Columns, columns
from offramp.native.emit.operand import puts_rounded
from offramp.native.program import Builder, Register
from offramp.native.structures import FORMATS

WIDEST = 256
"""The largest head dim that the kernels have room for."""

WIDEST_VECTOR = 16
"""Numbers that kernels round at a time, at most."""


class Turns(Structure):
    """Rotary tables `[positions, F]`; turned: F, or 0 without rotary positions. See rotate.h."""

    _fields_ = [("cosines", c_void_p), ("sines", c_void_p), ("turned", c_int64), ("format", c_int64)]


class Entries(Structure):
    """See entries.c."""

    _fields_ = [
        ("k", Columns),
        ("v", Columns),
        ("turns", Turns),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("positions", c_void_p),
        ("format", c_int64),
        ("groups", c_int64),
        ("head", c_int64),
        ("length", c_int64),
        ("part", c_int64),
    ]


class Attention(Structure):
    """See attend.c."""

    _fields_ = [
        ("q", Columns),
        ("out", Columns),
        ("rounded", Columns),
        ("turns", Turns),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("positions", c_void_p),
        ("scale", c_double),
        ("format", c_int64),
        ("groups", c_int64),
        ("share", c_int64),
        ("head", c_int64),
        ("length", c_int64),
        ("window", c_int64),
        ("part", c_int64),
    ]

    def also_rounds(self, x: Columns, width: int, format: int, into: Columns) -> bool:
        made = self.groups * self.share * self.head
        whole = width == made and puts_rounded(self.out, made, x, width, format)
        if whole := whole and self.head % WIDEST_VECTOR == 0:
            self.rounded = into
        return whole


@dataclass(frozen=True)
class AttentionMemory:
    """What attention remembers; cos and sin, whose halves are the same, are None without rotary positions."""

    k: Tensor  # [S, G, K, L]
    v: Tensor  # [S, G, L, K]
    pos: Tensor  # [S, L]
    cos: Tensor | None  # [positions, F]
    sin: Tensor | None


def write_entries(builder: Builder, part: int, memory: AttentionMemory, k: Columns, v: Columns) -> None:
    """Keys, not yet turned, and values `[N, G K]` become the entries of the rows' new tokens."""
    _, groups, head, length = memory.k.shape
    assert head <= WIDEST and all(x.is_contiguous() for x in (memory.k, memory.v, memory.pos))
    keys, values, positions = (builder.keep(x) for x in (memory.k, memory.v, memory.pos))
    arguments = Entries(
        k=k,
        v=v,
        turns=_turns(builder, memory),
        keys=keys,
        values=values,
        positions=positions,
        format=FORMATS[memory.k.dtype],
        groups=groups,
        head=head,
        length=length,
        part=part,
    )
    builder.add("entries", arguments)


def attend(
    builder: Builder, part: int, memory: AttentionMemory, q: Columns, heads: int, window: int | None = None
) -> Register:
    """What queries, not yet turned, `[N, H K]` see of their slots' entries up to their own, in the same shape.

    window: how many positions a token sees back, itself included. The entries must have been written.
    """
    _, groups, head, length = memory.k.shape
    assert head <= WIDEST and heads % groups == 0
    out = builder.register(heads * head)
    keys, values, positions = (builder.keep(x) for x in (memory.k, memory.v, memory.pos))
    arguments = Attention(
        q=q,
        out=columns(out),
        turns=_turns(builder, memory),
        keys=keys,
        values=values,
        positions=positions,
        scale=head**-0.5,
        format=FORMATS[memory.k.dtype],
        groups=groups,
        share=heads // groups,
        head=head,
        length=length,
        window=window or 0,
        part=part,
    )
    builder.add("attend", arguments)
    return out


def _turns(builder: Builder, memory: AttentionMemory) -> Turns:
    if memory.cos is None or memory.sin is None:
        return Turns(None, None, 0, 0)
    assert memory.cos.is_contiguous() and memory.sin.is_contiguous()
    cosines, sines = builder.keep(memory.cos), builder.keep(memory.sin)
    return Turns(cosines, sines, memory.cos.shape[1], FORMATS[memory.cos.dtype])
