"""Grouped causal attention with rotary positions: the Transformer's mixer.

Shapes: R rows, T tokens of each, N tokens of all rows in this call, packed, S slots, L entries, D width, H heads,
G key-value heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from offramp.mixers._entries import AttentionState, Turns, capacity
from offramp.mixers.base import CELL, Mark, Mixer, State
from offramp.ops.attention import attend, attend_cell
from offramp.ops.attention_cached import Chunk, attend_cached, attend_one, first_read
from offramp.ops.rope import PLAIN, Rope, rotate

HEAD_DIM = 32  # where nothing else is asked for


class EntryKind(NamedTuple):
    """What two blocks must share for one to take over the other's keys and values."""

    kv_heads: int
    head_dim: int
    rope: Rope | None


class Cell(NamedTuple):
    """All entries that a prompt cell's tokens may see, the cell's own last, and its tokens' rotations."""

    k_LGK: Tensor
    v_LGK: Tensor
    pos_L: Tensor
    turns: Turns


class Attention(Mixer):
    """rope None: no positions. window: how many positions a token sees back, itself included.

    head_norm: makes the norms of queries and keys (Qwen3), each over one head's dimensions; None: no norms.
    """

    def __init__(
        self,
        width: int,
        heads: int | None = None,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        rope: Rope | None = PLAIN,
        window: int | None = None,
        qkv_bias: bool = False,
        out_bias: bool = False,
        head_norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads or max(1, width // HEAD_DIM)
        self.kv_heads = kv_heads or self.heads
        self.head_dim = head_dim or width // self.heads
        self.rope, self.window = rope, window
        assert self.heads % self.kv_heads == 0, "every key-value head serves the same number of heads"
        assert rope is None or rope.turned(self.head_dim) % 2 == 0, (
            "positions turn a head's dimensions in pairs"
        )
        self.q_proj = nn.Linear(width, self.heads * self.head_dim, bias=qkv_bias)
        self.k_proj = nn.Linear(width, self.kv_heads * self.head_dim, bias=qkv_bias)
        self.v_proj = nn.Linear(width, self.kv_heads * self.head_dim, bias=qkv_bias)
        self.o_proj = nn.Linear(self.heads * self.head_dim, width, bias=out_bias)
        self.q_norm = head_norm(self.head_dim) if head_norm else nn.Identity()
        self.k_norm = head_norm(self.head_dim) if head_norm else nn.Identity()

    def init_state(self, slots: int, max_len: int) -> AttentionState:
        length, positions = capacity(max_len, self.window)
        weight = self.k_proj.weight
        k = weight.new_zeros(slots, self.kv_heads, self.head_dim, length)
        v = weight.new_zeros(slots, self.kv_heads, length, self.head_dim)
        pos = torch.zeros(slots, length, dtype=torch.long, device=weight.device)
        return AttentionState(slots, k, v, pos, *self._tables(positions, weight), self.window)

    def reset(self, state: State, slot: int) -> None:
        assert isinstance(state, AttentionState)
        state.reset(slot)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        if state is None:
            return self._whole(x)
        assert isinstance(state, AttentionState) and rows is not None and n is not None
        chunks, turns = self._append(x, state, rows, n)
        q_NHK = _turned(self._queries(x)[: sum(n)], turns)
        if len(x) == 1:
            mixed_NHK = attend_one(q_NHK[0], state.cache, chunks[0], self.window)[None]
        else:
            mixed_NHK = attend_cached(q_NHK, state.cache, chunks, self.window)
        padding = len(x) - len(mixed_NHK)
        return self.o_proj(nn.functional.pad(mixed_NHK.flatten(1), (0, 0, 0, padding)))

    def claim(self, state: State, rows: Sequence[int], n: Sequence[int]) -> list[Mark]:
        """Room for the next n[i] provisional tokens of slot rows[i], still to be written: where they stand."""
        assert isinstance(state, AttentionState)
        chunks = (state.claim(slot, count) for slot, count in zip(rows, n, strict=True))
        return [Mark(chunk.place, chunk.position) for chunk in chunks]

    def prefill(self, x_RTD: Tensor, state: State, rows: Sequence[int]) -> Tensor:
        return self.prefill_last(x_RTD, state, rows, x_RTD.shape[1])

    def prefill_last(self, x_RTD: Tensor, state: State, rows: Sequence[int], last: int) -> Tensor:
        assert isinstance(state, AttentionState)
        assert all(state.provisional[slot] == 0 for slot in rows), "a prompt cell follows final tokens only"
        tokens = x_RTD.shape[1]
        assert self.window is None or tokens <= CELL, "a window's state has room for one cell"
        k_RTGK, v_RTGK = self._keys_and_values(x_RTD)
        cells = [self._take_in(*cell, state) for cell in zip(k_RTGK, v_RTGK, rows, strict=True)]
        if not last:
            return x_RTD[:, tokens:]
        q_RTHK = self._queries(x_RTD[:, tokens - last :])
        mixed = [self._attend_cell(q_THK, cell) for q_THK, cell in zip(q_RTHK, cells, strict=True)]
        return self.o_proj(torch.stack(mixed).flatten(2))

    def _take_in(self, k_TGK: Tensor, v_TGK: Tensor, slot: int, state: AttentionState) -> Cell:
        """A prompt cell's entries become final."""
        tokens, first = len(k_TGK), first_read(state.entries[slot], self.window)
        chunk = state.claim(slot, tokens)
        turns = state.turns([chunk])
        k_TGK = _turned(k_TGK, turns)
        state.write(chunk, k_TGK, v_TGK)
        k_LGK, v_LGK, pos_L = state.read(slot, first, state.written(slot))
        state.commit(slot, tokens)
        if len(k_LGK) == tokens:
            k_LGK, v_LGK = k_TGK, v_TGK  # the same numbers, not turned
        return Cell(k_LGK, v_LGK, pos_L, turns)

    def _attend_cell(self, q_THK: Tensor, cell: Cell) -> Tensor:
        """`[T, H, K]`: queries of the cell's last tokens, not yet rotated."""
        tokens = len(q_THK)
        turns = None if cell.turns is None else (cell.turns[0][-tokens:], cell.turns[1][-tokens:])
        q_THK = _turned(q_THK, turns)
        return attend_cell(q_THK, cell.k_LGK, cell.v_LGK, cell.pos_L[-tokens:], cell.pos_L, self.window)

    def advance(self, x_ND: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        assert isinstance(state, AttentionState)
        self._append(x_ND, state, rows, n)

    @property
    def entry_kind(self) -> EntryKind:
        return EntryKind(self.kv_heads, self.head_dim, self.rope)

    def copy_entries(self, state: State, rows: Sequence[int], n: Sequence[int], source: State) -> None:
        assert isinstance(state, AttentionState) and isinstance(source, AttentionState)
        for slot, count in zip(rows, n, strict=True):
            assert source.next_position(slot) == state.next_position(slot) + count, "not the same tokens"
            state.write(state.claim(slot, count, copied=True), *source.newest(slot, count))

    def repeat_entry(self, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        assert isinstance(state, AttentionState)
        for slot, count in zip(rows, n, strict=True):
            own = state.last_own(slot)
            if own < 0:
                state.skip([slot], [count])
            else:
                carried = state.carry(slot, own, count)
                state.write(state.claim(slot, count, copied=True), *carried)

    def commit(self, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        assert isinstance(state, AttentionState)
        for slot, count in zip(rows, n, strict=True):
            state.commit(slot, count)

    def rollback(self, state: State, rows: Sequence[int], keep: int = 0) -> None:
        assert isinstance(state, AttentionState)
        for slot in rows:
            state.rollback(slot, keep)

    def snapshot(self, state: State, row: int, since: int = 0) -> dict[str, Tensor]:
        assert isinstance(state, AttentionState) and state.provisional[row] == 0
        return state.snapshot(row, since)

    def restore(self, state: State, row: int, saved: dict[str, Tensor]) -> None:
        assert isinstance(state, AttentionState)
        state.restore(row, saved)

    def _whole(self, x_RTD: Tensor) -> Tensor:
        q, (k, v) = self._queries(x_RTD), self._keys_and_values(x_RTD)
        cos, sin = self._tables(x_RTD.shape[1], q)
        if cos is not None and sin is not None:
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        return self.o_proj(attend(q, k, v, self.window).flatten(2))

    def _append(
        self, x_ND: Tensor, state: AttentionState, rows: Sequence[int], n: Sequence[int]
    ) -> tuple[list[Chunk], Turns]:
        """Write each row's next n[i] tokens as provisional entries; says where, and how they were turned."""
        k_NGK, v_NGK = (part[: sum(n)] for part in self._keys_and_values(x_ND))
        chunks = [state.claim(slot, count) for slot, count in zip(rows, n, strict=True)]
        turns = state.turns(chunks)
        state.write_packed(chunks, _turned(k_NGK, turns), v_NGK)
        return chunks, turns

    def _queries(self, x: Tensor) -> Tensor:
        """Not yet rotated."""
        return self.q_norm(self._split(self.q_proj(x)))

    def _keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys not yet rotated."""
        return self.k_norm(self._split(self.k_proj(x))), self._split(self.v_proj(x))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim))

    def _tables(self, length: int, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
        if self.rope is None:
            return None, None
        cos_LF, sin_LF = self.rope.table(length, self.head_dim, like.device)
        return cos_LF.to(like.dtype), sin_LF.to(like.dtype)


def _turned(x_THK: Tensor, turns: Turns) -> Tensor:
    return x_THK if turns is None else rotate(x_THK, *turns)
