"""What attention remembers: keys and values, one entry a token seen, and where they came from.

Entries are numbered from 0 in each slot. Without a window all are held. With one, only the newest: the buffer
holds the window, the provisional tokens and the largest chunk, and when it is full what no later query sees is
forgotten and the rest moves to its front. So a query's entries always lie in one piece, as in a buffer that is never
full; a ring that wraps would have to join two pieces for every query.

Shapes: T tokens in this call, S slots, L entries held, G key-value heads, K head dim, F turned dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from offramp.mixers.base import CELL, RUN_LIMIT, State
from offramp.ops.attention_cached import BLOCK, first_read
from offramp.ops.rope import rotate


def capacity(max_len: int, window: int | None) -> tuple[int, int]:
    """Entries a slot must hold, and positions that it can reach. Decoding reads whole blocks, and a run of
    provisional tokens may pass the limit."""
    reached = -(-max_len // BLOCK) * BLOCK + RUN_LIMIT + BLOCK
    if window is None:
        return reached, reached
    return min(reached, -(-(window + BLOCK + RUN_LIMIT + CELL) // BLOCK) * BLOCK), reached


@dataclass
class AttentionState(State):
    """Keys (rotated when written) and values. entries[slot] counts the final ones, oldest[slot] is the number of
    the first that is still held, at k[slot, 0]: a multiple of a block.

    pos is each entry's position: skipped tokens have a position and no entry. own is the number of the last entry,
    up to this one, that the block computed itself and did not copy, -1 where there is none. cos and sin are the
    rotations of all positions, None without rotary positions.
    """

    k: Tensor  # [S, L, G, K]
    v: Tensor  # [S, L, G, K]
    pos: Tensor  # [S, L]
    own: Tensor  # [S, L] in main memory: it is asked for, never computed with
    cos: Tensor | None  # [positions, F]
    sin: Tensor | None
    reach: int | None  # the mixer's window
    entries: list[int] = field(init=False)
    oldest: list[int] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.entries, self.oldest = [0] * self.slots, [0] * self.slots

    def reset(self, slot: int) -> None:
        self.position[slot] = self.provisional[slot] = self.entries[slot] = self.oldest[slot] = 0

    def written(self, slot: int) -> int:
        return self.entries[slot] + self.provisional[slot]

    def held(self, slot: int, first: int, stop: int) -> slice:
        """Where the entries first..stop-1 lie."""
        oldest = self.oldest[slot]
        assert oldest <= first <= stop, "these entries are forgotten"
        return slice(first - oldest, stop - oldest)

    def append(self, slot: int, k_TGK: Tensor, v_TGK: Tensor, copied: bool = False) -> int:
        """T provisional entries at the next positions, their keys rotated already; the number of the first."""
        first, position, count = self.written(slot), self.next_position(slot), len(k_TGK)
        self._make_room(slot, count)
        there = self.held(slot, first, first + count)
        self.k[slot, there], self.v[slot, there] = k_TGK, v_TGK
        self.pos[slot, there] = torch.arange(position, position + count, device=self.pos.device)
        own = self.last_own(slot)
        self.own[slot, there] = own if copied else torch.arange(first, first + count)
        self.provisional[slot] += count
        return first

    def last_own(self, slot: int) -> int:
        """The number of the slot's last entry that was not copied; -1: none."""
        written = self.written(slot)
        return int(self.own[slot, written - 1 - self.oldest[slot]]) if written else -1

    def newest(self, slot: int, count: int) -> tuple[Tensor, Tensor]:
        """Keys and values `[T, G, K]` of the last `count` entries."""
        written = self.written(slot)
        there = self.held(slot, written - count, written)
        return self.k[slot, there], self.v[slot, there]

    def turn(self, x_THK: Tensor, position: int) -> Tensor:
        """x rotated, its first token at `position`."""
        if self.cos is None or self.sin is None:
            return x_THK
        there = slice(position, position + len(x_THK))
        return rotate(x_THK, self.cos[there], self.sin[there])

    def carry(self, slot: int, entry: int, count: int) -> tuple[Tensor, Tensor]:
        """One entry as it would stand at the next `count` positions: its key rotated by the whole distance."""
        place = self.held(slot, entry, entry + 1)
        k_1GK, v_1GK = self.k[slot, place], self.v[slot, place]
        k_TGK, v_TGK = (part.repeat(count, 1, 1) for part in (k_1GK, v_1GK))  # writing may move the entries
        if self.cos is None or self.sin is None:
            return k_TGK, v_TGK
        there, position = self.pos[slot, place], self.next_position(slot)
        new = slice(position, position + count)
        return rotate(k_TGK, *_between(self.cos[there], self.sin[there], self.cos[new], self.sin[new])), v_TGK

    def snapshot(self, slot: int) -> dict[str, Tensor]:
        """A copy of the final entries that a later token can need, with the counts."""
        last = self.entries[slot]
        there = self.held(slot, self._needed(slot), last)
        saved = {name: part[slot, there].clone() for name, part in self._parts().items()}
        counts = {"entries": last, "position": self.position[slot]}
        return saved | {name: torch.tensor(count) for name, count in counts.items()}

    def restore(self, slot: int, saved: dict[str, Tensor]) -> None:
        count, self.entries[slot] = len(saved["pos"]), int(saved["entries"])
        for name, part in self._parts().items():
            part[slot, :count] = saved[name]
        self.oldest[slot], self.provisional[slot] = self.entries[slot] - count, 0
        self.position[slot] = int(saved["position"])

    def _parts(self) -> dict[str, Tensor]:
        return {"k": self.k, "v": self.v, "pos": self.pos, "own": self.own}

    def _make_room(self, slot: int, count: int) -> None:
        size, written = self.k.shape[1], self.written(slot)
        if written + count - self.oldest[slot] <= size:
            return
        needed = self._needed(slot)
        assert written + count - needed <= size, "the slot is full"
        there = self.held(slot, needed, written)
        for part in self._parts().values():
            part[slot, : written - needed] = part[slot, there].clone()
        self.oldest[slot] = needed

    def _needed(self, slot: int) -> int:
        """The first entry that a later token can need: the next one's window, and the last that was not copied
        (a token leaves at most RUN_LIMIT - 1 times in a row)."""
        if self.reach is None:
            return 0
        last = self.entries[slot]
        return min(first_read(last, self.reach), max(0, last - RUN_LIMIT) // BLOCK * BLOCK)


def _between(cos_F: Tensor, sin_F: Tensor, cos_TF: Tensor, sin_TF: Tensor) -> tuple[Tensor, Tensor]:
    """The rotations that lead from one angle to others. The squares take out what both are scaled by (YaRN)."""
    square_F = cos_F * cos_F + sin_F * sin_F
    return (cos_TF * cos_F + sin_TF * sin_F) / square_F, (sin_TF * cos_F - cos_TF * sin_F) / square_F
