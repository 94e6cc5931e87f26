"""What a module does, as steps of programs, and who says so of each kind of module.

Shapes: N tokens of all rows in this call, packed, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from torch import nn

from offramp.mixers.base import Mark, Mixer, State
from offramp.native.program import Builder, Register
from offramp.native.structures import NotLowered as NotLowered


@dataclass(frozen=True)
class Mixing:
    """A mixer's verbs on its state. Each adds steps to a program, and takes the next number of a part in it.

    run: adds what comes out of a register's tokens onto another register. advance: writes the state alone.
    claim: room for the next tokens, where they stand. replay: makes the work state again, of tokens on the tape.
    shift: moves the tape on, and takes no number.
    """

    run: Callable[[Builder, Register, Register], None]
    advance: Callable[[Builder, Register], None]
    claim: Callable[[Sequence[int], Sequence[int]], list[Mark]]
    replay: Callable[[Builder], None] | None = None
    shift: Callable[[Builder], None] | None = None


@dataclass(frozen=True)
class Kernels:
    """A block's, gate's or bridge's. run: of hidden states in a register, to what it gives (a gate: what its trunk
    reads). mixing: its mixer's; None where that remembers nothing but a count."""

    run: Callable[[Builder, Register], Register]
    advance: Callable[[Builder, Register], object]
    mixing: Mixing | None = None


def _none(module: object, *_: object) -> Any:
    raise NotLowered(f"{type(module).__name__} has no kernels")


@singledispatch
def kernels(module: nn.Module, state: State) -> Kernels:
    """Those of a block, gate or bridge with its state. Raises NotLowered where there are none."""
    return _none(module)


@singledispatch
def mixing(mixer: Mixer, state: State) -> Mixing:
    """Those of a mixer with its state. Raises NotLowered where there are none."""
    return _none(mixer)


@singledispatch
def apply(module: nn.Module, to: Builder, x: Register) -> Register:
    """What a module without state gives of x. Raises NotLowered where there are no kernels for it."""
    return _none(module)


def exactly(module: object, known: type) -> None:
    """Raises NotLowered for a subclass, which may do something else."""
    if type(module) is not known:
        _none(module)
