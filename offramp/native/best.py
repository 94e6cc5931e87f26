"""The best of each row's logits, outside of any program: what a greedy or a sampled choice takes, in C.

Shapes: N rows, V vocabulary.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from ctypes import Structure, c_int64, c_void_p
from typing import NamedTuple

from torch import Tensor

from offramp.native.library import Library
from offramp.native.structures import Call, Step, address

PIECE, NUMBERS = 4096, 4
"""Of best.c: tokens of a piece, and numbers of a Best."""


class Best(NamedTuple):
    """token: of the largest score. total: of exp((logit - largest) / heat) over all tokens, NaN where one is NaN."""

    token: int
    largest: float
    total: float


class Choosing(Structure):
    """See best.c."""

    _fields_ = [
        ("logits", c_void_p),
        ("heats", c_void_p),
        ("keys", c_void_p),
        ("pieces", c_void_p),
        ("best", c_void_p),
        ("rows", c_int64),
        ("vocab", c_int64),
        ("stride", c_int64),
    ]


def best_each(library: Library, logits_NV: Tensor, heats: Sequence[float], keys: Sequence[int]) -> list[Best]:
    """Of float32 logits. heats: temperatures; 0 is greedy. keys: of each row's Gumbel noise, 64 bits with a sign."""
    rows, vocab = logits_NV.shape
    assert logits_NV.stride(1) == 1
    heat, key = array("d", heats), array("q", keys)
    best = array("d", bytes(8 * NUMBERS * rows))
    pieces = array("d", bytes(8 * NUMBERS * rows * -(-vocab // PIECE)))
    begins = (each.buffer_info()[0] for each in (heat, key, pieces, best))
    arguments = Choosing(logits_NV.data_ptr(), *begins, rows, vocab, logits_NV.stride(0))
    at = address(arguments)
    steps = (Step * 2)(Step(library.kernel("best_pieces"), at), Step(library.kernel("best_rows"), at))
    library.run(steps, 2, Call())
    starts = range(0, NUMBERS * rows, NUMBERS)
    return [Best(int(best[i + 3]), best[i], best[i + 1]) for i in starts]
