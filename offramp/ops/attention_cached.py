"""Decode attention over the caches of many rows at once: a query's bits depend on its own visible entries alone.

Rows in neighbouring slots are a batch of matrices that lies in the caches as it is, so nothing is gathered. What
makes it exact, whoever shares the call (measured, and tested in tests/ops/test_row_exact.py):

- Keys lie turned `[K, L]`. Both products then have the form that PyTorch's CPU kernels compute alike for any number
  of matrices, and of query rows from 2 on (a single row takes another path). K is at least 4.
- Entries are read in tiles of 128 by their number. A product over one tile sums in one order, and tiles are added in
  theirs; a longer sum would be cut in pieces of the kernel's choice.
- Scores of entries that a query does not see are replaced by -inf, so their weights are exact zeros, and so is what
  tiles add that only a neighbour needs. Zero times what may lie there, NaN, is found afterwards (it shows) and taken
  out.

Shapes: R neighbouring slots, T queries of each, N tokens of all rows, packed, S slots, L entries, H query heads,
G key-value heads (H = G * J), K head dim, B = R * G matrices, M = T * J query rows of a key-value head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

TILE = 128

IDLE = 3
"""So many unused slots between two rows are computed with them: they cost less than a call of their own."""


class Chunk(NamedTuple):
    """n tokens of one row: their entries lie from `place` on in the slot's memory, they stand from `position` on."""

    slot: int
    n: int
    place: int
    position: int


class Cache(NamedTuple):
    """Entries of all slots. pos: each entry's position; skipped tokens leave gaps, and a window counts positions."""

    k: Tensor  # [S, G, K, L]
    v: Tensor  # [S, G, L, K]
    pos: Tensor  # [S, L]


def first_read(entry: int, window: int | None) -> int:
    """The first entry that the query of entry number `entry` reads: that of a tile.

    Positions grow at least as fast as numbers, so what lies before is out of the window.
    """
    return 0 if window is None else max(0, entry - window + 1) // TILE * TILE


class Places(NamedTuple):
    """Of each packed token: its slot, the place of its entry there, and its position, `[N]` each."""

    slot: Tensor
    entry: Tensor
    position: Tensor


def places(chunks: Sequence[Chunk], device: torch.device) -> Places:
    """Where the chunks' tokens are."""
    return _places(tuple(chunks), device, torch.is_inference_mode_enabled())


# What follows from the chunks alone is made once for all blocks of a segment, which ask for it one after the other.
# A tensor made in inference mode cannot serve outside of it.
@lru_cache(maxsize=8)
def _places(chunks: tuple[Chunk, ...], device: torch.device, inference: bool) -> Places:
    tokens = [(c.slot, c.place + t, c.position + t) for c in chunks for t in range(c.n)]
    return Places(*torch.tensor(tokens, device=device).T.contiguous())


def attend_cached(q_NHK: Tensor, cache: Cache, chunks: Sequence[Chunk], window: int | None) -> Tensor:
    """`[N, H, K]`: each query sees the entries of its slot up to its own, which is written already.

    chunks: where the queries' own entries are, slots ascending. A slot's memory is whole tiles and begins with an
    entry whose number is that of a tile's first.
    """
    share = q_NHK.shape[1] // cache.k.shape[1]
    inference = torch.is_inference_mode_enabled()
    layouts = _layouts(tuple(chunks), window, share, q_NHK.device, inference)
    runs = [_Run(layout, cache, window) for layout in layouts]
    queries = q_NHK.split([layout.queries for layout in layouts])
    out_NHK = _joined([run.attend(q) for run, q in zip(runs, queries, strict=True)])
    if math.isnan(out_NHK.sum()):  # a row's own, or from entries that it does not see
        out_NHK = _joined([run.attend(q, clean=True) for run, q in zip(runs, queries, strict=True)])
    return out_NHK


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def attend_one(q_HK: Tensor, cache: Cache, chunk: Chunk, window: int | None) -> Tensor:
    """`[H, K]`: the only query of a call, as fast as it can be: no tiles, so not with the bits it has in company."""
    slot, own = chunk.slot, chunk.place
    first = first_read(own, window)
    k_GKL, v_GLK = cache.k[slot, :, :, first : own + 1], cache.v[slot, :, first : own + 1]
    scores_GJL = (q_HK * q_HK.shape[-1] ** -0.5).unflatten(0, (len(k_GKL), -1)) @ k_GKL
    if window is not None:
        scores_GJL = scores_GJL.masked_fill(
            chunk.position - cache.pos[slot, first : own + 1] >= window, -torch.inf
        )
    return (_softmax(scores_GJL) @ v_GLK).flatten(0, 1)


def _neighbours(chunks: Sequence[Chunk]) -> Iterator[Sequence[Chunk]]:
    """Chunks whose slots are so close that they are computed together."""
    start = 0
    for i, (one, other) in enumerate(pairwise(chunks), 1):
        if other.slot - one.slot > IDLE + 1:
            yield chunks[start:i]
            start = i
    yield chunks[start:]


@dataclass(frozen=True)
class _Layout:
    """The rows of neighbouring slots. Every slot has T queries: a shorter row repeats its last, an idle slot the first
    row's, and what they give is dropped.

    queries: packed ones · of_query: which of them stands at each of the R * T places, None where they stand as they
    are · kept: which places hold the packed queries · unseen_RTL: of the entries from number `before` on, which a
    query does not see because they are later; those before it all queries see, unless there is a window.
    """

    queries: int
    tokens: int
    share: int
    slots: slice
    entries: slice
    before: int
    of_query: Tensor | None
    kept: Tensor | None
    pos_RT: Tensor
    unseen_RTL: Tensor


@lru_cache(maxsize=8)
def _layouts(
    chunks: tuple[Chunk, ...], window: int | None, share: int, device: torch.device, inference: bool
) -> list[_Layout]:
    return [_layout(near, window, share, device) for near in _neighbours(chunks)]


def _layout(chunks: Sequence[Chunk], window: int | None, share: int, device: torch.device) -> _Layout:
    tokens = max(max(chunk.n for chunk in chunks), 2 if share == 1 else 1)  # M is at least 2
    lo = min(first_read(chunk.place, window) for chunk in chunks)
    hi = -(-max(chunk.place + chunk.n for chunk in chunks) // TILE) * TILE
    before = 0 if window is not None else min(chunk.place for chunk in chunks) - lo
    of_query, kept, own_RT, pos_RT = _tables(chunks, tokens, device)
    straight = len(kept) == len(of_query)
    return _Layout(
        queries=len(kept),
        tokens=tokens,
        share=share,
        slots=slice(chunks[0].slot, chunks[-1].slot + 1),
        entries=slice(lo, hi),
        before=before,
        of_query=None if straight else of_query,
        kept=None if straight else kept,
        pos_RT=pos_RT,
        unseen_RTL=torch.arange(lo + before, hi, device=device) > own_RT[..., None],
    )


def _tables(
    chunks: Sequence[Chunk], tokens: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which of the packed queries stands at each of the R * T places, which places hold the packed queries, and
    their own entries and positions `[R, T]`."""
    first, start = chunks[0].slot, 0
    of_query, kept, own, pos = ([0] * tokens * (chunks[-1].slot + 1 - first) for _ in range(4))
    for slot, n, place, position in chunks:
        base = (slot - first) * tokens
        for t in range(tokens):
            past = min(t, n - 1)
            of_query[base + t] = start + past
            own[base + t], pos[base + t] = place + past, position + past
        kept[start : start + n] = range(base, base + n)
        start += n
    table = torch.tensor([of_query, kept, own, pos], device=device)
    own_RT, pos_RT = table[2:].unflatten(1, (-1, tokens))
    return table[0], table[1, :start], own_RT, pos_RT


class _Run:
    """A layout over the memory of its slots."""

    def __init__(self, layout: _Layout, cache: Cache, window: int | None) -> None:
        self.layout, self.groups = layout, cache.k.shape[1]
        self.k_BKL = cache.k[layout.slots, :, :, layout.entries].flatten(0, 1)
        self.v_BLK = cache.v[layout.slots, :, layout.entries].flatten(0, 1)
        self.unseen_RTL = layout.unseen_RTL
        if window is not None:
            pos_R1L = cache.pos[layout.slots, None, layout.entries]
            self.unseen_RTL = self.unseen_RTL | (layout.pos_RT[..., None] - pos_R1L >= window)

    def attend(self, q_NHK: Tensor, clean: bool = False) -> Tensor:
        """`[N, H, K]`. clean: values that a query does not see are replaced by zeros, instead of being left out by
        their weight."""
        layout, q_PHK = self.layout, q_NHK * q_NHK.shape[-1] ** -0.5
        if layout.of_query is not None:
            q_PHK = q_PHK.index_select(0, layout.of_query)
        q_RTGJK = q_PHK.view(-1, layout.tokens, self.groups, layout.share, q_NHK.shape[-1])
        scores_BML = q_RTGJK.transpose(1, 2).flatten(0, 1).flatten(1, 2) @ self.k_BKL
        self._by_row(scores_BML[..., layout.before :]).masked_fill_(
            self.unseen_RTL[:, None, :, None], -torch.inf
        )
        weights_BML = _softmax(scores_BML)
        out_BMK = self._mix_clean(weights_BML) if clean else _by_tiles(weights_BML, self.v_BLK)
        out_PHK = self._by_row(out_BMK).transpose(1, 2).flatten(0, 1).flatten(1, 2)
        return out_PHK if layout.kept is None else out_PHK.index_select(0, layout.kept)

    def _by_row(self, x_BMK: Tensor) -> Tensor:
        """`[R, G, T, J, K]`, the same memory."""
        layout = self.layout
        return x_BMK.unflatten(1, (layout.tokens, layout.share)).unflatten(0, (-1, self.groups))

    def _mix_clean(self, weights_BML: Tensor) -> Tensor:
        """Query by query, each with the values it sees, in products of the same shape."""
        parts = []
        for t, unseen_RL in enumerate(self.unseen_RTL.unbind(1)):
            unseen_BL = unseen_RL.repeat_interleave(self.groups, 0)
            v_BLK = self.v_BLK.clone()
            v_BLK[:, self.layout.before :].masked_fill_(unseen_BL[..., None], 0)
            parts.append(self._by_row(_by_tiles(weights_BML, v_BLK))[:, :, t])
        return torch.stack(parts, 2).flatten(2, 3).flatten(0, 1)


def _by_tiles(weights_BML: Tensor, v_BLK: Tensor) -> Tensor:
    first, *rest = (
        weights @ v for weights, v in zip(weights_BML.split(TILE, -1), v_BLK.split(TILE, 1), strict=True)
    )
    return sum(rest, first)


def _softmax(scores: Tensor) -> Tensor:
    """In float32 at least."""
    return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)


def attend_cached_naive(q_NHK: Tensor, cache: Cache, chunks: Sequence[Chunk], window: int | None) -> Tensor:
    """One query and one head at a time."""
    share, queries = q_NHK.shape[1] // cache.k.shape[1], iter(q_NHK)
    outputs = []
    for slot, n, place, position in chunks:
        for t in range(n):
            seen = [
                entry
                for entry in range(place + t + 1)
                if window is None or position + t - int(cache.pos[slot, entry]) < window
            ]
            heads = []
            for h, q_K in enumerate(next(queries)):
                k_LK, v_LK = cache.k[slot, h // share, :, seen].T, cache.v[slot, h // share, seen]
                weights_L = ((k_LK * q_K).sum(-1) / len(q_K) ** 0.5).softmax(0)
                heads.append((weights_L[:, None] * v_LK).sum(0))
            outputs.append(torch.stack(heads))
    return torch.stack(outputs)
