"""The hidden states that wait before a segment, oldest first, of every slot.

A decoder's typical call has one row or one token of each: what lies in one piece is taken without an index.

Shapes: S slots, N tokens of all rows in this call, packed, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from offramp.mixers.base import RUN_LIMIT


@dataclass(frozen=True)
class Ring:
    """memory `[S, 16, D]`; waiting[slot]: how many of the slot's tokens are there."""

    memory: Tensor
    waiting: list[int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "waiting", [0] * len(self.memory))

    def put(self, x_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        """The next n[i] tokens of slot rows[i]."""
        if len(rows) == 1:
            [slot], [count] = rows, n
            first = self.waiting[slot]
            self.memory[slot, first : first + count] = x_ND
        else:
            self.memory.flatten(0, 1)[self._places(rows, n)] = x_ND.to(self.memory.dtype)
        for slot, count in zip(rows, n, strict=True):
            self.waiting[slot] += count

    def take(self, rows: Sequence[int]) -> tuple[Tensor, list[int]]:
        """All that waits, packed, and how many of each row; nothing does any more. It holds until the next `put`."""
        n = [self.waiting[slot] for slot in rows]
        for slot in rows:
            self.waiting[slot] = 0
        if len(rows) == 1:
            return self.memory[rows[0], : n[0]], n
        return self.memory.flatten(0, 1)[self._places(rows, n)], n

    def _places(self, rows: Sequence[int], n: Sequence[int]) -> Tensor:
        """Where the next n[i] tokens of slot rows[i] lie, slots and places flattened."""
        firsts = [slot * RUN_LIMIT + self.waiting[slot] for slot in rows]
        places = [first + t for first, count in zip(firsts, n, strict=True) for t in range(count)]
        return torch.tensor(places, device=self.memory.device)


def newest(x_ND: Tensor, n: Sequence[int]) -> Tensor:
    """The last of each row's n[i] packed tokens `[R, D]`."""
    return pick(x_ND, [stop - 1 for stop in accumulate(n)])


def pick(x_ND: Tensor, numbers: Sequence[int]) -> Tensor:
    """Those of the rows of x, in ascending order; a view where they lie in one piece."""
    first, count = (numbers[0], len(numbers)) if numbers else (0, 0)
    if not numbers or numbers[-1] - first == count - 1:
        return x_ND[first : first + count]
    return x_ND[torch.tensor(numbers, device=x_ND.device)]
