"""The structures of offramp.h, as Python fills them."""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_int64, c_void_p
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

ABI = 2
"""Of offramp.h: a library with another one is not used."""

F32, BF16, I8, I4 = range(4)
FORMATS = {torch.float32: F32, torch.bfloat16: BF16}


class NotLowered(Exception):
    """There are no kernels for a module or a weight. The text says for which, and why."""


class Matrix(Structure):
    """Weights row by row, one row an output: `[rows, columns]`."""

    _fields_ = [
        ("data", c_void_p),
        ("scales", c_void_p),
        ("rows", c_int64),
        ("columns", c_int64),
        ("stride", c_int64),
        ("format", c_int64),
    ]


@runtime_checkable
class Laid(Protocol):
    """Weights that know how they lie: quantised ones, whatever they are to PyTorch."""

    def matrix(self) -> Matrix:
        """As kernels read it, where it lies."""


class Call(Structure):
    """What a program is run on: rows, their tokens, where they stand, and the registers. See offramp.h."""

    _fields_ = [
        ("rows", c_int64),
        ("tokens", c_int64),
        ("slot", c_void_p),
        ("count", c_void_p),
        ("first", c_void_p),
        ("row", c_void_p),
        ("marks", c_void_p),
        ("registers", c_void_p),
    ]


class Step(Structure):
    """A kernel, its arguments, and what says which memory it reads first (or None)."""

    _fields_ = [("kernel", c_void_p), ("arguments", c_void_p), ("reads", c_void_p)]


def pointer(tensor: Tensor | None) -> int | None:
    """Where its numbers begin; the caller keeps the tensor alive as long as the pointer is used."""
    return None if tensor is None else tensor.data_ptr()


def matrix(weight: Tensor) -> Matrix:
    """A float32 or bfloat16 matrix `[rows, columns]` where it lies. Raises NotLowered for rows in pieces (a transposed
    view), as a copy would not follow its weight."""
    if weight.stride(1) != 1 or weight.dtype not in FORMATS:
        raise NotLowered("a weight whose rows do not lie in one piece has no kernels")
    rows, columns = weight.shape
    return Matrix(weight.data_ptr(), None, rows, columns, weight.stride(0), FORMATS[weight.dtype])


def address(arguments: Structure) -> int:
    return ctypes.addressof(arguments)
