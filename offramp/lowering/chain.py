"""Parts that kernels run: tokens go through all of them in one call.

Shapes: N tokens of all rows in this call, packed, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

from torch import Tensor

from offramp.lowering.kernels import Kernels, Mixing
from offramp.mixers._recurrent import RecurrentState
from offramp.mixers.base import RUN_LIMIT, Mark
from offramp.native.library import Library
from offramp.native.program import Builder, Program, Register
from offramp.propagation.base import Part, Stack

MOST_ROOM = 256
"""Tokens that a program has registers for before a call needs more."""
Through = Callable[[Builder, Register], Sequence[Register]]
"""Adds the steps from hidden states to outputs."""


@dataclass(frozen=True)
class NativePart(Part):
    """Prompt cells and what moves entries stay PyTorch's: they write the same memory. width: of hidden states."""

    kernels: Kernels
    library: Library
    width: int

    def __call__(self, x_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> Tensor:
        self.count("run", rows, n)
        return self._alone.run(x_ND, rows, n)[0]

    def advance(self, x_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        self._taken_in.run(x_ND, rows, n)

    def commit(self, rows: Sequence[int], n: Sequence[int]) -> None:
        self._alone.commit(rows, n)

    @property
    def mixing(self) -> Mixing:
        assert self.kernels.mixing is not None, "only what remembers is run by itself"
        return self.kernels.mixing

    @cached_property
    def _alone(self) -> Chain:
        return Chain([self], lambda to, x: [self.kernels.run(to, x)])

    @cached_property
    def _taken_in(self) -> TakenIn:
        return TakenIn([self])


class TakenIn:
    """Parts that take in the same hidden states and give nothing out, in one call."""

    def __init__(self, parts: Sequence[NativePart]) -> None:
        self.parts = tuple(parts)

    def run(self, x_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        """The next n[i] tokens of slot rows[i]; they are provisional."""
        for part in self.parts:
            part.count("advance", rows, n)
        self._program.run(x_ND, rows, n, [part.mixing.claim(rows, n) for part in self.parts])

    @cached_property
    def _program(self) -> Program:
        first = self.parts[0]
        to = Builder(first.library, room=min(MOST_ROOM, first.state.slots))
        x = to.register(first.width)
        for part in self.parts:
            with to.scratch():
                part.kernels.advance(to, x)
        return to.build(x, [])


@dataclass(frozen=True)
class NativeStack(Stack):
    """Parts without kernels are advanced by themselves."""

    def advance(self, h_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        if self._taken_in.parts:
            self._taken_in.run(h_ND, rows, n)
        for part in (*self.deeper, *self.listeners):
            if not isinstance(part, NativePart):
                part.advance(h_ND, rows, n)

    @cached_property
    def _taken_in(self) -> TakenIn:
        return TakenIn([part for part in (*self.deeper, *self.listeners) if isinstance(part, NativePart)])


class Chain:
    """Parts that share a frontier, and the programs that run and settle them."""

    def __init__(self, parts: Sequence[NativePart], through: Through) -> None:
        """through: of all parts, whose numbers in the program are in their order here."""
        self.parts, self.through = tuple(parts), through
        self._tokens = min(MOST_ROOM, RUN_LIMIT * parts[0].state.slots)
        self._claims = [part.mixing.claim for part in parts]
        self._recurrent = [isinstance(part.state, RecurrentState) for part in parts]

    def run(self, x_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> list[Tensor]:
        """The next n[i] tokens of slot rows[i], packed, through all parts; they are provisional.

        What comes out are views that the next run overwrites.
        """
        return self._run.run(x_ND, rows, n, [claim(rows, n) for claim in self._claims])

    def commit(self, rows: Sequence[int], n: Sequence[int]) -> None:
        """The first n[i] provisional tokens of slot rows[i] are final; the others are forgotten."""
        states = [part.state for part in self.parts if isinstance(part.state, RecurrentState)]
        self._settle(states, rows, n)
        for part, recurrent in zip(self.parts, self._recurrent, strict=True):
            if not recurrent:
                part.module.mixer.commit(part.state, rows, n)

    def _settle(self, states: Sequence[RecurrentState], rows: Sequence[int], n: Sequence[int]) -> None:
        """Where only some tokens are final, work is made again from base; then the windows move on."""
        if not states:
            return
        assert len({tuple(state.provisional[slot] for slot in rows) for state in states}) == 1, (
            "not one frontier"
        )
        if kept := states[0].partly(rows, n):
            slots, counts = zip(*kept, strict=True)
            marks: list[list[Mark]] = [[state.mark(slot, 0) for slot in slots] for state in states]
            self._replay.run(None, slots, counts, marks)
        if any(n):
            self._shift.run(None, list(compress(rows, n)), list(filter(None, n)))
        for state in states:
            state.settle(rows, n)

    @cached_property
    def _run(self) -> Program:
        to = Builder(self.parts[0].library, room=self._tokens)
        x = to.register(self.parts[0].width)
        return to.build(x, self.through(to, x))

    @cached_property
    def _replay(self) -> Program:
        to = Builder(self.parts[0].library, room=self._tokens)
        for part in self.parts:
            if part.mixing.replay is not None:
                part.mixing.replay(to)
        return to.build(None, [])

    @cached_property
    def _shift(self) -> Program:
        to = Builder(self.parts[0].library, room=self._tokens)
        for part in self.parts:
            if part.mixing.shift is not None:
                part.mixing.shift(to)
        return to.build(None, [])
