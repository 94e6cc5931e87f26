"""What kernels of recurrences need of their slots: which of two states is final, and how many tokens follow it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from kernel_schedules import SLOTS, library
from torch import Tensor

from offramp.native.program import Marks, Program


class RecurrentRig(ABC):
    """Subclasses make the programs: run gives y, advance does not, replay starts again from what is remembered."""

    run: Program
    advances: Program
    replay: Program
    ssm: Tensor  # [2, S, ...]

    def __init__(self, isa: str, threads: int) -> None:
        self.threads, self.library = threads, library(isa, threads)
        self.base, self.provisional = [0] * SLOTS, [0] * SLOTS

    @abstractmethod
    def final(self, slot: int) -> list[Tensor]: ...

    @abstractmethod
    def shift(self, slot: int, count: int) -> None:
        """The slot's first provisional tokens are final: a window moves on."""

    def push(self, rows: Sequence[int], n: Sequence[int], x_ND: Tensor) -> Tensor:
        return self._claimed(self.run, rows, n, x_ND)[0]

    def advance(self, rows: Sequence[int], n: Sequence[int], x_ND: Tensor) -> None:
        self._claimed(self.advances, rows, n, x_ND)

    def commit(self, rows: Sequence[int], keep: Sequence[int]) -> None:
        pairs = list(zip(rows, keep, strict=True))
        partly = [(slot, count) for slot, count in pairs if 0 < count < self.provisional[slot]]
        if partly:
            slots, n = zip(*partly, strict=True)
            self.replay.run(torch.zeros(sum(n), 1), slots, n, self._marks(slots, [0] * len(slots)))
        for slot, count in pairs:
            self.shift(slot, count)
            self.base[slot] ^= count > 0
            self.provisional[slot] = 0

    def _claimed(self, program: Program, rows: Sequence[int], n: Sequence[int], x_ND: Tensor) -> list[Tensor]:
        marks = self._marks(rows, [self.provisional[slot] for slot in rows])
        for slot, count in zip(rows, n, strict=True):
            self.provisional[slot] += count
        self.library.threads = self.threads
        return program.run(x_ND, rows, n, marks)

    def _marks(self, rows: Sequence[int], places: Sequence[int]) -> Marks:
        """The first provisional token continues base, later ones work."""
        marks = []
        for slot, place in zip(rows, places, strict=True):
            base = self.base[slot]
            marks.append((place, 0, (base ^ (place > 0)) * SLOTS + slot, (1 - base) * SLOTS + slot))
        return [marks]


def assert_advance_leaves_the_same_bits(ran: RecurrentRig, advanced: RecurrentRig, x_ND: Tensor) -> None:
    ran.push([0, 2], [5, 7], x_ND)
    advanced.advance([0, 2], [5, 7], x_ND)
    for rig in (ran, advanced):
        rig.commit([0, 2], [5, 3])
    for slot in (0, 2):
        for one, other in zip(ran.final(slot), advanced.final(slot), strict=True):
            assert torch.equal(one, other)
