"""Where a call's tokens stand, as tensors of one fixed shape: all that a static step is told.

Packed tokens are laid out as a grid of R rows of T tokens, both rounded up to powers of two. What is missing repeats
what is there: a short row its last token, a missing row the last one. So padding writes what is written anyway, holds
no strange numbers, and needs no place of its own; only a recurrence must know not to take a token in twice.

Shapes: R rows, T tokens of each, M = R T, S slots, L entries, F fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from offramp.mixers.base import Mark

FEWEST = 128
"""Entries that attention reads at least: graphs are not made for every few more."""
SHARED = 3
"""Fields that all parts share: slot, count, and a row's first packed token."""


class Room(NamedTuple):
    """What the parts of a call hold at most: slots, and entries of one (0: no part attends)."""

    slots: int
    entries: int


class Bucket(NamedTuple):
    """What shapes a call. slots, entries: how much of every cache attention reads. groups: of each part, which of the
    different marks are its own."""

    rows: int
    tokens: int
    slots: int
    entries: int
    groups: tuple[int, ...]


def arrange(
    rows: Sequence[int], n: Sequence[int], marks: Sequence[Sequence[Mark]], room: Room
) -> tuple[Bucket, list[list[int]]]:
    """The bucket of n[i] tokens of slot rows[i] that stand in each part at its marks[i]; its fields `[F][R]`."""
    groups: dict[tuple[Mark, ...], int] = {}
    of_part = tuple(groups.setdefault(tuple(own), len(groups)) for own in marks)
    wide, tokens, slots, entries = power(len(rows)), power(max(n)), 0, 0
    if room.entries:
        slots = wide if max(rows) < wide <= room.slots else room.slots
        last = max(mark.place + count for own in groups for mark, count in zip(own, n, strict=True))
        entries = min(room.entries, max(FEWEST, power(last)))
    fields = [rows, n, list(accumulate(n, initial=0))[:-1]]
    fields += [list(field) for own in groups for field in zip(*own, strict=True)]
    missing = wide - len(rows)
    padded = [[*field, *[field[-1]] * missing] for field in fields]
    return Bucket(wide, tokens, slots, entries, of_part), padded


def power(count: int) -> int:
    """The least power of two that is not less."""
    return 1 << (count - 1).bit_length()


@dataclass(frozen=True)
class Grid:
    """Where tokens stand in one part's memory; see `Mark`. n_R: tokens of each row. live_RT: which are no padding."""

    bucket: Bucket
    slot_R: Tensor
    n_R: Tensor
    live_RT: Tensor
    place_RT: Tensor
    position_RT: Tensor
    source_R: Tensor
    target_R: Tensor

    @cached_property
    def slot_M(self) -> Tensor:
        return self.slot_R[:, None].expand_as(self.place_RT).flatten()

    @cached_property
    def place_M(self) -> Tensor:
        return self.place_RT.flatten()

    @cached_property
    def position_M(self) -> Tensor:
        return self.position_RT.flatten()

    @cached_property
    def later_STL(self) -> Tensor:
        """Which entries come after a token's own."""
        entry_L = torch.arange(self.bucket.entries, device=self.slot_R.device)
        return entry_L > self.by_slot(self.place_RT)[..., None]

    def in_rows(self, x_M: Tensor) -> Tensor:
        """`[R, T, ...]` of `[M, ...]`."""
        return x_M.unflatten(0, (self.bucket.rows, self.bucket.tokens))

    def by_slot(self, x_R: Tensor) -> Tensor:
        """`[S, ...]` of `[R, ...]`; zeros where no row is."""
        return x_R.new_zeros(self.bucket.slots, *x_R.shape[1:]).index_copy_(0, self.slot_R, x_R)


def read(fields_FR: Tensor, bucket: Bucket) -> tuple[Tensor, list[Grid]]:
    """Which packed token stands at each place of the grid `[M]`, and the grid of each part."""
    slot_R, n_R, first_R = fields_FR[:SHARED]
    t_T = torch.arange(bucket.tokens, device=fields_FR.device)
    step_RT = torch.minimum(t_T, n_R[:, None] - 1)
    live_RT = t_T < n_R[:, None]
    grids = [
        Grid(bucket, slot_R, n_R, live_RT, place_R[:, None] + step_RT, position_R[:, None] + step_RT, *states)
        for place_R, position_R, *states in fields_FR[SHARED:].unflatten(0, (-1, len(Mark._fields)))
    ]
    return (first_R[:, None] + step_RT).flatten(), [grids[group] for group in bucket.groups]
