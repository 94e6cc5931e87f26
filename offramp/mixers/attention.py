"""Grouped causal attention with rotary positions: the Transformer's mixer.

Shapes: R rows, T tokens in this call, S slots, L entries, D width, H heads, G key-value heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from offramp.mixers.base import RUN_LIMIT, Mixer, State
from offramp.ops.attention import attend, attend_cell
from offramp.ops.attention_cached import BLOCK, attend_cached
from offramp.ops.rope import PLAIN, Rope, rotate

HEAD_DIM = 32  # where nothing else is asked for


@dataclass
class AttentionState(State):
    """Keys (rotated when written) and values, one entry a token seen. entries[slot] counts the final ones.

    pos is each entry's position: skipped tokens have a position and no entry. cos and sin are the rotations
    of all positions, None without rotary positions.
    """

    k: Tensor  # [S, L, G, K]
    v: Tensor  # [S, L, G, K]
    pos: Tensor  # [S, L]
    cos: Tensor | None  # [L, F]
    sin: Tensor | None
    entries: list[int] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.entries = [0] * self.slots

    def written(self, slot: int) -> int:
        return self.entries[slot] + self.provisional[slot]


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
        # A run of provisional tokens may pass the limit, and decoding reads whole blocks.
        length = -(-max_len // BLOCK) * BLOCK + RUN_LIMIT + BLOCK
        weight = self.k_proj.weight
        k, v = (weight.new_zeros(slots, length, self.kv_heads, self.head_dim) for _ in range(2))
        pos = torch.zeros(slots, length, dtype=torch.long, device=weight.device)
        return AttentionState(slots, k, v, pos, *self._tables(length, weight))

    def reset(self, state: State, slot: int) -> None:
        assert isinstance(state, AttentionState)
        state.position[slot] = state.provisional[slot] = state.entries[slot] = 0

    def forward(
        self,
        x_RTD: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        if state is None:
            return self._whole(x_RTD)
        assert isinstance(state, AttentionState) and rows is not None and n is not None
        q_RTHK = self._queries(x_RTD)
        firsts = self._append(x_RTD, state, rows, n)
        mixed = []
        for q_THK, slot, first, count in zip(q_RTHK, rows, firsts, n, strict=True):
            q_THK = self._turn(q_THK, state, state.next_position(slot) - count)
            k_LGK, v_LGK, pos_L = state.k[slot], state.v[slot], state.pos[slot]
            mixed.append(attend_cached(q_THK, k_LGK, v_LGK, pos_L, first, count, self.window))
        return self.o_proj(torch.stack(mixed).flatten(2))

    def prefill(self, x_RTD: Tensor, state: State, rows: Sequence[int]) -> Tensor:
        assert isinstance(state, AttentionState)
        assert all(state.provisional[slot] == 0 for slot in rows), "a prompt cell follows final tokens only"
        tokens = x_RTD.shape[1]
        q_RTHK = self._queries(x_RTD)
        self._append(x_RTD, state, rows, [tokens] * len(rows))
        mixed = []
        for q_THK, slot in zip(q_RTHK, rows, strict=True):
            q_THK = self._turn(q_THK, state, state.position[slot])
            there = state.written(slot)
            pos_L = state.pos[slot, :there]
            k_LGK, v_LGK = state.k[slot, :there], state.v[slot, :there]
            mixed.append(attend_cell(q_THK, k_LGK, v_LGK, pos_L[-tokens:], pos_L, self.window))
        self.commit(state, rows, [tokens] * len(rows))
        return self.o_proj(torch.stack(mixed).flatten(2))

    def advance(self, x_RTD: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        assert isinstance(state, AttentionState)
        self._append(x_RTD, state, rows, n)

    def commit(self, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        assert isinstance(state, AttentionState)
        for slot, count in zip(rows, n, strict=True):
            assert count <= state.provisional[slot], "only tokens that were pushed can be committed"
            state.position[slot] += count
            state.entries[slot] += count
            state.provisional[slot] = 0

    def rollback(self, state: State, rows: Sequence[int], keep: int = 0) -> None:
        for slot in rows:
            state.provisional[slot] = min(state.provisional[slot], keep)

    def snapshot(self, state: State, row: int) -> dict[str, Tensor]:
        assert isinstance(state, AttentionState) and state.provisional[row] == 0
        there = state.entries[row]
        parts = {"k": state.k, "v": state.v, "pos": state.pos}
        saved = {name: part[row, :there].clone() for name, part in parts.items()}
        return saved | {"position": torch.tensor(state.position[row])}

    def restore(self, state: State, row: int, saved: dict[str, Tensor]) -> None:
        assert isinstance(state, AttentionState)
        there = len(saved["pos"])
        for name, part in (("k", state.k), ("v", state.v), ("pos", state.pos)):
            part[row, :there] = saved[name]
        state.entries[row], state.provisional[row] = there, 0
        state.position[row] = int(saved["position"])

    def _whole(self, x_RTD: Tensor) -> Tensor:
        q, (k, v) = self._queries(x_RTD), self._keys_and_values(x_RTD)
        cos, sin = self._tables(x_RTD.shape[1], q)
        if cos is not None and sin is not None:
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        return self.o_proj(attend(q, k, v, self.window).flatten(2))

    def _append(
        self, x_RTD: Tensor, state: AttentionState, rows: Sequence[int], n: Sequence[int]
    ) -> list[int]:
        """Write the first n[i] tokens of each row as provisional entries; gives the number of its first."""
        k_RTGK, v_RTGK = self._keys_and_values(x_RTD)
        firsts = [state.written(slot) for slot in rows]
        for i, (slot, first, count) in enumerate(zip(rows, firsts, n, strict=True)):
            position = state.next_position(slot)
            entries = slice(first, first + count)
            state.k[slot, entries] = self._turn(k_RTGK[i], state, position)[:count]
            state.v[slot, entries] = v_RTGK[i, :count]
            state.pos[slot, entries] = torch.arange(position, position + count, device=state.pos.device)
            state.provisional[slot] += count
        return firsts

    def _queries(self, x_RTD: Tensor) -> Tensor:
        """Not yet rotated."""
        return self.q_norm(self._split(self.q_proj(x_RTD)))

    def _keys_and_values(self, x_RTD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys not yet rotated."""
        return self.k_norm(self._split(self.k_proj(x_RTD))), self._split(self.v_proj(x_RTD))

    def _split(self, x_RTE: Tensor) -> Tensor:
        return x_RTE.unflatten(-1, (-1, self.head_dim))

    def _tables(self, length: int, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
        if self.rope is None:
            return None, None
        cos_LF, sin_LF = self.rope.table(length, self.head_dim, like.device)
        return cos_LF.to(like.dtype), sin_LF.to(like.dtype)

    def _turn(self, x_THK: Tensor, state: AttentionState, position: int) -> Tensor:
        """x rotated, its first token at `position`."""
        if state.cos is None or state.sin is None:
            return x_THK
        there = slice(position, position + len(x_THK))
        return rotate(x_THK, state.cos[there], state.sin[there])
