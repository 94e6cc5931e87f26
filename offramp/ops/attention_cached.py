"""Decode attention of one row over its cache: each query's bits depend on its own visible entries alone.

A query reads the block of 16 that its own entry is in, and F entries in full blocks before it: all there are, or
with a window those that a query of that block may see. Its own number and the window alone say which. Queries of
the same block are computed together, always T of them, so no shape tells how many are valid or what lies behind. In
the last block scores *and values* of unseen entries are replaced, as they may be NaN.

Shapes: T queries, L entries, H query heads, G key-value heads (H = G * J), K head dim, M = T * J query rows
of a key-value head, F entries of full blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from offramp.ops.attention import attend_masked, visible

BLOCK = 16


def first_read(entry: int, window: int | None) -> int:
    """The first entry that the query of entry number `entry` reads: that of a block.

    Positions grow at least as fast as numbers, so what lies before is out of every window of its block.
    """
    full = entry // BLOCK * BLOCK
    return 0 if window is None else max(0, full - window + 1) // BLOCK * BLOCK


def attend_cached(
    q_THK: Tensor,
    k_LGK: Tensor,
    v_LGK: Tensor,
    pos_L: Tensor,
    before: int,
    n: int,
    window: int | None,
    oldest: int = 0,
) -> Tensor:
    """`[T, H, K]`: query t < n sees entries up to number before + t, its own; the others give zeros.

    k, v and pos are the slot's whole cache, whose first entry has the number `oldest` (of a block, and no later than
    what is read) and which reaches to the end of the last query's block. Entries carry positions: skipped tokens
    leave gaps, and a window counts positions.
    """
    if len(q_THK) == 1:
        read = slice(first_read(before, window) - oldest, before + 1 - oldest)
        return _attend_one(q_THK, k_LGK[read], v_LGK[read], pos_L[read], window)
    out_THK = torch.zeros_like(q_THK)
    start = 0
    while start < n:
        full = (before + start) // BLOCK * BLOCK
        first, stop = first_read(full, window), min(n, full + BLOCK - before)
        read = slice(first - oldest, full + BLOCK - oldest)
        group_THK = _attend_group(q_THK, k_LGK[read], v_LGK[read], pos_L[read], before - first, window)
        out_THK[start:stop] = group_THK[start:stop]
        start = stop
    return out_THK


def _attend_one(q_1HK: Tensor, k_LGK: Tensor, v_LGK: Tensor, pos_L: Tensor, window: int | None) -> Tensor:
    sees_1L = None if window is None else visible(pos_L[-1:], pos_L, window)
    return attend_masked(q_1HK, k_LGK, v_LGK, sees_1L)


def _attend_group(
    q_THK: Tensor, k_LGK: Tensor, v_LGK: Tensor, pos_L: Tensor, before: int, window: int | None
) -> Tensor:
    """All T queries over these L entries, the last BLOCK of them masked; right for queries of that last block.

    The first query's own entry is number `before` of these.
    """
    tokens, groups, full = len(q_THK), k_LGK.shape[1], len(k_LGK) - BLOCK
    sees_TL = _sees(pos_L, before, tokens, window)
    q_GMK = _by_group(q_THK * q_THK.shape[-1] ** -0.5, groups)
    scores_GML = q_GMK @ k_LGK.permute(1, 2, 0)
    scores_GTJL = scores_GML.unflatten(1, (tokens, -1)).masked_fill(~sees_TL[:, None], -torch.inf)
    precise = torch.promote_types(q_THK.dtype, torch.float32)
    weights_GTJL = scores_GTJL.softmax(-1, dtype=precise).to(v_LGK.dtype)

    sees_last = sees_TL[:, full:, None, None]
    last_TGBK = v_LGK[None, full:].where(sees_last, 0).transpose(1, 2)
    out_TGJK = weights_GTJL[..., full:].transpose(0, 1) @ last_TGBK
    if full:
        out_GMK = weights_GTJL[..., :full].flatten(1, 2) @ v_LGK[:full].transpose(0, 1)
        out_TGJK = out_TGJK + out_GMK.unflatten(1, (tokens, -1)).transpose(0, 1)
    return out_TGJK.flatten(1, 2)


def _by_group(q_THK: Tensor, groups: int) -> Tensor:
    """`[G, T * J, K]`: the queries that share a key head are rows of one product."""
    return q_THK.unflatten(1, (groups, -1)).transpose(0, 1).flatten(1, 2)


def _sees(pos_L: Tensor, before: int, tokens: int, window: int | None) -> Tensor:
    """`[T, L]` by entry number, and by position where there is a window."""
    own_T = torch.arange(before, before + tokens, device=pos_L.device)
    entry_L = torch.arange(len(pos_L), device=pos_L.device)
    sees_TL = entry_L[None] <= own_T[:, None]
    if window is None:
        return sees_TL
    pos_T = pos_L[own_T.clamp(0, len(pos_L) - 1)]
    return sees_TL & (pos_T[:, None] - pos_L[None] < window)
