"""What attention remembers: keys and values, one entry a token seen, and where they came from.

Entries are numbered from 0 in each slot. Without a window all are held. With one, only the newest: the buffer
holds the window, the provisional tokens and the largest chunk, and when it is full what no later query sees is
forgotten and the rest moves to its front. So a query's entries always lie in one piece, as in a buffer that is never
full; a ring that wraps would have to join two pieces for every query.

Shapes: T tokens of one slot, N tokens of all rows in this call, packed, S slots, L entries held, G key-value heads,
K head dim, F turned dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from offramp.mixers.base import CELL, RUN_LIMIT, State
from offramp.ops.attention_cached import TILE, Cache, Chunk, first_read, places
from offramp.ops.rope import rotate

Turns = tuple[Tensor, Tensor] | None
"""Cosines and sines `[N, F]` of some positions; None without rotary positions."""


def capacity(max_len: int, window: int | None) -> tuple[int, int]:
    """Entries a slot must hold, and positions that it can reach. Decoding reads whole tiles, and a run of
    provisional tokens may pass the limit."""
    reached = _tiles(max_len + RUN_LIMIT)
    if window is None:
        return reached, reached
    return min(reached, _tiles(window + TILE + RUN_LIMIT + CELL)), reached


def _tiles(entries: int) -> int:
    return -(-entries // TILE) * TILE


@dataclass
class AttentionState(State):
    """Keys (rotated when written) and values. entries[slot] counts the final ones, oldest[slot] is the number of
    the first that is still held, at v[slot, :, 0]: that of a tile's first.

    pos is each entry's position: skipped tokens have a position and no entry. own[slot][i] is the number of the last
    entry that the block computed itself and did not copy, among the final ones and i provisional ones; -1 where there
    is none. cos and sin are the rotations of all positions, None without rotary positions.
    """

    k: Tensor  # [S, G, K, L]
    v: Tensor  # [S, G, L, K]
    pos: Tensor  # [S, L]
    cos: Tensor | None  # [positions, F]
    sin: Tensor | None
    reach: int | None  # the mixer's window
    entries: list[int] = field(init=False)
    oldest: list[int] = field(init=False)
    own: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.entries, self.oldest = [0] * self.slots, [0] * self.slots
        self.own = [[-1] for _ in range(self.slots)]

    @property
    def cache(self) -> Cache:
        return Cache(self.k, self.v, self.pos)

    def reset(self, slot: int) -> None:
        self.position[slot] = self.provisional[slot] = self.entries[slot] = self.oldest[slot] = 0
        self.own[slot] = [-1]

    def commit(self, slot: int, count: int) -> None:
        assert count <= self.provisional[slot], "only tokens that were pushed can be committed"
        self.position[slot] += count
        self.entries[slot] += count
        self.provisional[slot] = 0
        self.own[slot] = [self.own[slot][count]]

    def rollback(self, slot: int, keep: int) -> None:
        self.provisional[slot] = min(self.provisional[slot], keep)
        del self.own[slot][keep + 1 :]

    def written(self, slot: int) -> int:
        return self.entries[slot] + self.provisional[slot]

    def held(self, slot: int, first: int, stop: int) -> slice:
        """Where the entries first..stop-1 lie."""
        oldest = self.oldest[slot]
        assert oldest <= first <= stop, "these entries are forgotten"
        return slice(first - oldest, stop - oldest)

    def claim(self, slot: int, count: int, copied: bool = False) -> Chunk:
        """The next `count` provisional entries, at the next positions, still to be written."""
        first, position = self.written(slot), self.next_position(slot)
        self._make_room(slot, count)
        own = self.own[slot]
        own.extend([own[-1]] * count if copied else range(first, first + count))
        self.provisional[slot] += count
        return Chunk(slot, count, first - self.oldest[slot], position)

    def write(self, chunk: Chunk, k_TGK: Tensor, v_TGK: Tensor) -> None:
        """A claimed chunk's entries, their keys rotated already."""
        slot, n, place, position = chunk
        k_GKT, v_GTK, pos_T = self._held(slot, slice(place, place + n))
        k_GKT[...], v_GTK[...] = k_TGK.permute(1, 2, 0), v_TGK.transpose(0, 1)
        pos_T[...] = torch.arange(position, position + n, device=pos_T.device)

    def write_packed(self, chunks: Sequence[Chunk], k_NGK: Tensor, v_NGK: Tensor) -> None:
        """`write` of all chunks; a single one is written without an index."""
        if len(chunks) == 1:
            self.write(chunks[0], k_NGK, v_NGK)
            return
        slot_N, place_N, pos_N = places(chunks, self.pos.device)
        self.k[slot_N, :, :, place_N], self.v[slot_N, :, place_N] = k_NGK, v_NGK
        self.pos[slot_N, place_N] = pos_N

    def last_own(self, slot: int) -> int:
        """The number of the slot's last entry that was not copied; -1: none."""
        return self.own[slot][-1]

    def newest(self, slot: int, count: int) -> tuple[Tensor, Tensor]:
        """Keys and values `[T, G, K]` of the last `count` entries."""
        written = self.written(slot)
        return self.read(slot, written - count, written)[:2]

    def read(self, slot: int, first: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values `[T, G, K]` and positions `[T]` of the entries first..stop-1."""
        k_GKT, v_GTK, pos_T = self._held(slot, self.held(slot, first, stop))
        return k_GKT.permute(2, 0, 1), v_GTK.transpose(0, 1), pos_T

    def turns(self, chunks: Sequence[Chunk]) -> Turns:
        """Those of the chunks' positions."""
        if self.cos is None or self.sin is None:
            return None
        if len(chunks) == 1:
            there = slice(chunks[0].position, chunks[0].position + chunks[0].n)
            return self.cos[there], self.sin[there]
        pos_N = places(chunks, self.cos.device).position
        return self.cos.index_select(0, pos_N), self.sin.index_select(0, pos_N)

    def carry(self, slot: int, entry: int, count: int) -> tuple[Tensor, Tensor]:
        """One entry as it would stand at the next `count` positions: its key rotated by the whole distance."""
        k_1GK, v_1GK, there = self.read(slot, entry, entry + 1)
        k_TGK, v_TGK = (part.repeat(count, 1, 1) for part in (k_1GK, v_1GK))  # writing may move the entries
        if self.cos is None or self.sin is None:
            return k_TGK, v_TGK
        position = self.next_position(slot)
        new = slice(position, position + count)
        return rotate(k_TGK, *_between(self.cos[there], self.sin[there], self.cos[new], self.sin[new])), v_TGK

    def snapshot(self, slot: int, since: int) -> dict[str, Tensor]:
        """A copy of the final entries from number `since` on that a later token can need, with the counts."""
        last, own = self.entries[slot], self.last_own(slot)
        there = self.held(slot, max(since, self._needed(slot)), last)
        saved = {
            name: part.clone() for name, part in zip(("k", "v", "pos"), self._held(slot, there), strict=True)
        }
        counts = {"entries": last, "position": self.position[slot], "own": own, "since": since}
        return saved | {name: torch.tensor(count) for name, count in counts.items()}

    def restore(self, slot: int, saved: dict[str, Tensor]) -> None:
        last, since, count = int(saved["entries"]), int(saved["since"]), len(saved["pos"])
        if since == 0 or last - count > since:  # nothing before it is needed
            self.reset(slot)
            self.oldest[slot] = self.entries[slot] = last - count
        assert self.written(slot) == last - count, "a snapshot is given after the one that it follows"
        self._make_room(slot, count)
        there = self.held(slot, last - count, last)
        for part, name in zip(self._held(slot, there), ("k", "v", "pos"), strict=True):
            part[...] = saved[name]
        self.entries[slot], self.position[slot] = last, int(saved["position"])
        self.own[slot] = [int(saved["own"])]

    def _held(self, slot: int, there: slice) -> tuple[Tensor, Tensor, Tensor]:
        """The memory itself: keys `[G, K, T]`, values `[G, T, K]`, positions `[T]`."""
        return self.k[slot, :, :, there], self.v[slot, :, there], self.pos[slot, there]

    def _make_room(self, slot: int, count: int) -> None:
        size, written = self.pos.shape[1], self.written(slot)
        if written + count - self.oldest[slot] <= size:
            return
        needed = self._needed(slot)
        assert written + count - needed <= size, "the slot is full"
        moved = [part.clone() for part in self._held(slot, self.held(slot, needed, written))]
        for part, values in zip(self._held(slot, slice(0, written - needed)), moved, strict=True):
            part[...] = values
        self.oldest[slot] = needed

    def _needed(self, slot: int) -> int:
        """The first entry that a later token can need: the next one's window, and the last that was not copied
        (a token leaves at most RUN_LIMIT - 1 times in a row)."""
        if self.reach is None:
            return 0
        last = self.entries[slot]
        return min(first_read(last, self.reach), max(0, last - RUN_LIMIT) // TILE * TILE)


def _between(cos_F: Tensor, sin_F: Tensor, cos_TF: Tensor, sin_TF: Tensor) -> tuple[Tensor, Tensor]:
    """The rotations that lead from one angle to others. The squares take out what both are scaled by (YaRN)."""
    square_F = cos_F * cos_F + sin_F * sin_F
    return (cos_TF * cos_F + sin_TF * sin_F) / square_F, (sin_TF * cos_F - cos_TF * sin_F) / square_F
