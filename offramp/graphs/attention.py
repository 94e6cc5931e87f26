"""Attention as a static step: entries are written by index, and read where they lie in every slot up to a bound.

Caches are not gathered: queries are put beside the slots they belong to. Scores of what a query does not see are
replaced, so keys there may be anything; values are multiplied by exact zeros, so they must be finite. An entry whose
values are not is written with keys that are NaN instead: who sees it is NaN, and nobody else.

Shapes: M = R T tokens of a grid, S slots, L entries, H heads = G groups of J, K head dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offramp.graphs.grid import Grid
from offramp.graphs.static import Static
from offramp.mixers._entries import AttentionState, Turns
from offramp.mixers.attention import Attention
from offramp.ops.norm import at_least_float32
from offramp.ops.rope import rotate


class StaticAttention(Static):
    mixer: Attention
    state: AttentionState

    def __init__(self, mixer: Attention, state: AttentionState) -> None:
        super().__init__()
        self.mixer, self.state = mixer, state

    def forward(self, x_MD: Tensor, grid: Grid, rows: Sequence[int], n: Sequence[int]) -> Tensor:
        turns = self._turns(grid)
        self._write(x_MD, grid, turns)
        q_MHK = _turned(self.mixer.q_norm(self._heads(self.mixer.q_proj(x_MD))), turns)
        return self.mixer.o_proj(self._attend(q_MHK, grid).flatten(1))

    def advance(self, x_MD: Tensor, grid: Grid, rows: Sequence[int], n: Sequence[int]) -> None:
        self._write(x_MD, grid, self._turns(grid))

    def renew(self, slot: int) -> None:
        """A prompt's entries are written by the mixer itself."""
        self.state.v[slot] = 0

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.mixer.head_dim))

    def _turns(self, grid: Grid) -> Turns:
        cos, sin = self.state.cos, self.state.sin
        if cos is None or sin is None:
            return None
        return cos.index_select(0, grid.position_M), sin.index_select(0, grid.position_M)

    def _write(self, x_MD: Tensor, grid: Grid, turns: Turns) -> None:
        state, slot_M, place_M = self.state, grid.slot_M, grid.place_M
        k_MGK = _turned(self.mixer.k_norm(self._heads(self.mixer.k_proj(x_MD))), turns)
        v_MGK = self._heads(self.mixer.v_proj(x_MD))
        strange_MG1 = ~v_MGK.isfinite().all(-1, keepdim=True)
        state.k[slot_M, :, :, place_M] = k_MGK.masked_fill(strange_MG1, torch.nan)
        state.v[slot_M, :, place_M] = v_MGK.masked_fill(strange_MG1, 0)
        state.pos[slot_M, place_M] = grid.position_M

    def _attend(self, q_MHK: Tensor, grid: Grid) -> Tensor:
        """`[M, H, K]`: two products for each key-value head, in which all its queries share what is read.

        A fused kernel with a mask would give every such head one processor of the device, and heads that share keys
        a copy of them.
        """
        state, slots = self.state, grid.bucket.slots
        k_SGKL = state.k[:slots, :, :, : grid.bucket.entries]
        v_SGLK = state.v[:slots, :, : grid.bucket.entries]
        groups, entries = k_SGKL.shape[1], k_SGKL.shape[-1]
        q_SGTJK = grid.by_slot(grid.in_rows(q_MHK)).unflatten(2, (groups, -1)).transpose(1, 2)
        tokens, share, head_dim = q_SGTJK.shape[2:]
        scores = (q_SGTJK * head_dim**-0.5).flatten(2, 3) @ k_SGKL
        unseen_S1T1L = self._unseen(grid, entries)[:, None, :, None]
        scores = scores.unflatten(2, (tokens, share)).masked_fill(unseen_S1T1L, -torch.inf)
        weights = at_least_float32(scores).softmax(-1).to(scores.dtype).flatten(2, 3)
        mixed_STHK = (weights @ v_SGLK).unflatten(2, (tokens, share)).transpose(1, 2).flatten(2, 3)
        return mixed_STHK.index_select(0, grid.slot_R).flatten(0, 1)

    def _unseen(self, grid: Grid, entries: int) -> Tensor:
        """`[S, T, L]`."""
        later_STL, window = grid.later_STL[..., :entries], self.mixer.window
        if window is None:
            return later_STL
        pos_S1L = self.state.pos[: grid.bucket.slots, None, :entries]
        return later_STL | (grid.by_slot(grid.position_RT)[..., None] - pos_S1L >= window)


def _turned(x_MHK: Tensor, turns: Turns) -> Tensor:
    return x_MHK if turns is None else rotate(x_MHK, *turns)
