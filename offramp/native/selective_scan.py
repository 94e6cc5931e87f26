"""Mamba-1's recurrence over whole prompt cells, outside of any program: `offramp.ops.scan.selective_scan` in C.

Shapes: R rows, T tokens, E channels, N state.
"""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

import torch
from torch import Tensor

from offramp.native.library import Library
from offramp.native.structures import Call, Step, address


class Cells(Structure):
    """See scan.c."""

    _fields_ = [
        ("u", c_void_p),
        ("dt", c_void_p),
        ("B", c_void_p),
        ("C", c_void_p),
        ("decay", c_void_p),
        ("skip", c_void_p),
        ("states", c_void_p),
        ("y", c_void_p),
        ("rows", c_int64),
        ("tokens", c_int64),
        ("channels", c_int64),
        ("state", c_int64),
    ]


def selective_scan(
    library: Library,
    u_RTE: Tensor,
    dt_RTE: Tensor,
    A_EN: Tensor,
    B_RTN: Tensor,
    C_RTN: Tensor,
    D_E: Tensor,
    initial_REN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y `[R, T, E]` and the final state `[R, E, N]`, float32. dt arrives after its softplus; no gradients.

    Cutting the tokens into several calls, each from the state before, changes no bit.
    """
    given = (u_RTE, dt_RTE, B_RTN, C_RTN, A_EN, D_E)
    inputs = [x.detach().to("cpu", torch.float32).contiguous() for x in given]
    rows, tokens, channels = u_RTE.shape
    y_RTE, final_REN = torch.empty(rows, tokens, channels), torch.zeros(rows, *A_EN.shape)
    if initial_REN is not None:
        final_REN.copy_(initial_REN)
    pointers = [x.data_ptr() for x in (*inputs, final_REN, y_RTE)]
    arguments = Cells(*pointers, rows, tokens, channels, A_EN.shape[1])
    steps = (Step * 1)(Step(library.kernel("scan_cells"), address(arguments)))
    library.run(steps, 1, Call())
    return y_RTE, final_REN
