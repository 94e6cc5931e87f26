"""Parts that take tokens in by static steps: each by itself, or several in one call.

Shapes: N tokens of all rows in this call, packed, M tokens of a grid, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any, cast

from torch import Tensor, nn

from offramp.graphs.grid import Grid, Room
from offramp.graphs.program import Function, Graphs, Program
from offramp.graphs.recurrent import StaticRecurrent
from offramp.graphs.static import Static, twin
from offramp.mixers._entries import AttentionState
from offramp.propagation.base import Part


@dataclass(frozen=True)
class GraphedPart(Part):
    """Prompt cells and what moves entries stay PyTorch's own way: they write the same memory."""

    static: Static
    graphs: Graphs

    def __call__(self, x_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> Tensor:
        self.count("run", rows, n)
        return self._alone.run(x_ND, rows, n)[0]

    def advance(self, x_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        self.count("advance", rows, n)
        self._advance.run(x_ND, rows, n, [self.static.claim(rows, n)])

    def commit(self, rows: Sequence[int], n: Sequence[int]) -> None:
        self._alone.commit(rows, n)

    def reset(self, slot: int) -> None:
        super().reset(slot)
        self.static.renew(slot)

    @cached_property
    def twin(self) -> Any:
        """The module over the static mixer."""
        return twin(cast(nn.Module, self.module), [self.static])

    @cached_property
    def _alone(self) -> Chain:
        return Chain([self], lambda x, grids: [self.twin(x, grids[0], (), ())], self.graphs)

    @cached_property
    def _advance(self) -> Program:
        def advance(x_MD: Tensor | None, grids: Sequence[Grid]) -> Sequence[Tensor]:
            self.twin.advance(x_MD, grids[0], (), ())
            return []

        return Program(advance, room_of([self]), self.graphs)


def room_of(parts: Sequence[GraphedPart]) -> Room:
    entries = [part.state.v.shape[2] for part in parts if isinstance(part.state, AttentionState)]
    return Room(parts[0].state.slots, max(entries, default=0))


class Chain:
    """Parts that share a frontier, and the programs that run and settle them."""

    def __init__(self, parts: Sequence[GraphedPart], through: Function, graphs: Graphs) -> None:
        """through: of all parts, whose grids are in their order here."""
        self.parts = tuple(parts)
        self._recurrent = [part.static for part in parts if isinstance(part.static, StaticRecurrent)]
        room = room_of(parts)
        self._run = Program(through, room, graphs)
        self._replay = Program(self._replayed, room._replace(entries=0), graphs)
        self._shift = Program(self._shifted, room._replace(entries=0), graphs)

    def run(self, x_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> list[Tensor]:
        """The next n[i] tokens of slot rows[i], packed, through all parts; they are provisional.

        What comes out are views that the next run overwrites.
        """
        return self._run.run(x_ND, rows, n, [part.static.claim(rows, n) for part in self.parts])

    def commit(self, rows: Sequence[int], n: Sequence[int]) -> None:
        """The first n[i] provisional tokens of slot rows[i] are final; the others are forgotten."""
        if self._recurrent and any(n):
            self._settle(rows, n)
        for part in self.parts:
            if isinstance(part.static, StaticRecurrent):
                part.static.state.settle(rows, n)
            else:
                part.module.mixer.commit(part.state, rows, n)

    def _settle(self, rows: Sequence[int], n: Sequence[int]) -> None:
        """Where only some tokens are final, work is made again from base; then the windows move on."""
        if kept := self._recurrent[0].state.partly(rows, n):
            self._by_index(self._replay, *zip(*kept, strict=True))
        self._by_index(self._shift, list(compress(rows, n)), list(filter(None, n)))

    def _by_index(self, program: Program, rows: Sequence[int], n: Sequence[int]) -> None:
        """Each row's first n provisional tokens."""
        marks = [[static.state.mark(slot, 0) for slot in rows] for static in self._recurrent]
        program.run(None, rows, n, marks)

    def _replayed(self, x: Tensor | None, grids: Sequence[Grid]) -> Sequence[Tensor]:
        for static, grid in zip(self._recurrent, grids, strict=True):
            static.replay(grid)
        return []

    def _shifted(self, x: Tensor | None, grids: Sequence[Grid]) -> Sequence[Tensor]:
        for static, grid in zip(self._recurrent, grids, strict=True):
            static.shift(grid)
        return []
