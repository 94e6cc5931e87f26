"""Attention with grouped keys, RoPE (half-split layout) and an optional sliding window."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..layers import Linear, RMSNorm
from .base import Mixer, Storage


class Entry(NamedTuple):
    """One key-value entry. Positions belong to the state: after a skipped token they have gaps."""

    position: int
    own: bool  # computed by this block, not copied into it


@dataclass
class AttentionState:
    keys: Tensor  # [max_len, G, K], rotated to their positions
    values: Tensor  # [max_len, G, K]
    entries: list[Entry] = field(default_factory=list)
    final: int = 0  # the entries after the first `final` are provisional


def rotate(x_HK: Tensor, position: int, theta: float) -> Tensor:
    """RoPE: turn the pair (i, i + K/2) by position * theta ** (-2i / K)."""
    K = x_HK.shape[-1]
    angle = position * theta ** (-torch.arange(0, K, 2, dtype=torch.float64) / K)
    a, b = x_HK.split(K // 2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


@dataclass(eq=False)
class Attention(Mixer):
    q_proj: Linear  # [H * K, D]
    k_proj: Linear  # [G * K, D]
    v_proj: Linear  # [G * K, D]
    o_proj: Linear  # [D, H * K]
    head_dim: int
    theta: float = 10_000.0
    window: int | None = None  # a query at p sees the positions above p - window
    q_norm: RMSNorm | None = None  # per head, before the rotation
    k_norm: RMSNorm | None = None

    def new_state(self, storage: Storage, max_len: int) -> AttentionState:
        groups = len(self.k_proj.weight) // self.head_dim
        return AttentionState(
            storage(max_len, groups, self.head_dim), storage(max_len, groups, self.head_dim)
        )

    def chunk(self, x_TD: Tensor, state: AttentionState, positions: Sequence[int]) -> Tensor:
        return torch.stack(
            [self._token(*self._project(x), state, p) for x, p in zip(x_TD, positions, strict=True)]
        )

    def cell(self, x_TD: Tensor, state: AttentionState, positions: Sequence[int]) -> Tensor:
        queries, keys, values = self._project(x_TD)
        tokens = zip(queries, keys, values, positions, strict=True)
        y_TD = torch.stack([self._token(q, k, v, state, p) for q, k, v, p in tokens])
        self.commit(state, len(y_TD))
        return y_TD

    def append(
        self, state: AttentionState, key: Tensor, value: Tensor, position: int, own: bool = True
    ) -> None:
        """One provisional entry; the key is already rotated."""
        state.keys[len(state.entries)] = key  # IndexError: the slot is full
        state.values[len(state.entries)] = value
        state.entries.append(Entry(position, own))

    def attend(self, query_HK: Tensor, state: AttentionState, position: int) -> Tensor:
        """Softmax over the entries inside the window; what lies behind them is never read."""
        first = 0 if self.window is None else position - self.window + 1
        seen = [i for i, entry in enumerate(state.entries) if entry.position >= first]
        keys, values = self._per_head(state.keys[seen]), self._per_head(state.values[seen])
        weights = ((keys * query_HK).sum(-1) * self.head_dim**-0.5).softmax(0)
        return (weights[..., None] * values).sum(0)

    def provisional(self, state: AttentionState) -> int:
        return len(state.entries) - state.final

    def commit(self, state: AttentionState, n: int) -> None:
        state.final += n
        del state.entries[state.final :]

    def rollback(self, state: AttentionState, keep: int = 0) -> None:
        del state.entries[state.final + keep :]

    def export(self, state: AttentionState) -> list[Tensor]:
        n = state.final
        positions = torch.tensor([entry.position for entry in state.entries[:n]])
        return [state.keys[:n].clone(), state.values[:n].clone(), positions]

    def _token(
        self, query: Tensor, key: Tensor, value: Tensor, state: AttentionState, position: int
    ) -> Tensor:
        self.append(state, rotate(key, position, self.theta), value, position)
        heads_HK = self.attend(rotate(query, position, self.theta), state, position)
        return self.o_proj(heads_HK.flatten())

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[..., D] -> queries [..., H, K], keys and values [..., G, K], not yet rotated."""
        q, k, v = (p(x).unflatten(-1, (-1, self.head_dim)) for p in (self.q_proj, self.k_proj, self.v_proj))
        return (self.q_norm(q) if self.q_norm else q), (self.k_norm(k) if self.k_norm else k), v

    def _per_head(self, x_nGK: Tensor) -> Tensor:
        heads = len(self.q_proj.weight) // self.head_dim
        return x_nGK.repeat_interleave(heads // x_nGK.shape[1], 1)
