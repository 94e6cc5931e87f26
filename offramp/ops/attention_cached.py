"""Decode attention of one row over its cache: each query's bits depend on its own visible entries alone.

A query sees its own entry and those before it: F entries in full blocks of 16, and up to 16 in its own
entry's block. Queries with the same F are computed together, always T of them, so no shape tells how many are
valid or what lies behind. In the last block scores *and values* of unseen entries are replaced, as they may
be NaN.

Shapes: T queries, L entries, H query heads, G key-value heads (H = G * J), K head dim, M = T * J query rows
of a key-value head, F entries of full blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from offramp.ops.attention import attend_masked, visible

BLOCK = 16


def attend_cached(
    q_THK: Tensor, k_LGK: Tensor, v_LGK: Tensor, pos_L: Tensor, before: int, n: int, window: int | None
) -> Tensor:
    """`[T, H, K]`: query t < n sees entries 0..before + t, the last of them its own; the others give zeros.

    k, v and pos are the slot's whole cache, L >= before + n rounded up to a block. Entries carry positions:
    skipped tokens leave gaps, and a window counts positions.
    """
    if len(q_THK) == 1:
        return _attend_one(q_THK, k_LGK[: before + 1], v_LGK[: before + 1], pos_L[: before + 1], window)
    out_THK = torch.zeros_like(q_THK)
    start = 0
    while start < n:
        full = (before + start) // BLOCK * BLOCK
        stop = min(n, full + BLOCK - before)
        group_THK = _attend_group(q_THK, k_LGK, v_LGK, pos_L, before, full, window)
        out_THK[start:stop] = group_THK[start:stop]
        start = stop
    return out_THK


def _attend_one(q_1HK: Tensor, k_LGK: Tensor, v_LGK: Tensor, pos_L: Tensor, window: int | None) -> Tensor:
    sees_1L = None if window is None else visible(pos_L[-1:], pos_L, window)
    return attend_masked(q_1HK, k_LGK, v_LGK, sees_1L)


def _attend_group(
    q_THK: Tensor, k_LGK: Tensor, v_LGK: Tensor, pos_L: Tensor, before: int, full: int, window: int | None
) -> Tensor:
    """All T queries over the first `full` entries and the next block; right for those whose F is `full`."""
    tokens, groups = len(q_THK), k_LGK.shape[1]
    end = full + BLOCK
    sees_TL = _sees(pos_L, before, tokens, end, window)
    q_GMK = _by_group(q_THK * q_THK.shape[-1] ** -0.5, groups)
    scores_GML = q_GMK @ k_LGK[:end].permute(1, 2, 0)
    scores_GTJL = scores_GML.unflatten(1, (tokens, -1)).masked_fill(~sees_TL[:, None], -torch.inf)
    precise = torch.promote_types(q_THK.dtype, torch.float32)
    weights_GTJL = scores_GTJL.softmax(-1, dtype=precise).to(v_LGK.dtype)

    sees_last = sees_TL[:, full:, None, None]
    last_TGBK = v_LGK[None, full:end].where(sees_last, 0).transpose(1, 2)
    out_TGJK = weights_GTJL[..., full:].transpose(0, 1) @ last_TGBK
    if full:
        out_GMK = weights_GTJL[..., :full].flatten(1, 2) @ v_LGK[:full].transpose(0, 1)
        out_TGJK = out_TGJK + out_GMK.unflatten(1, (tokens, -1)).transpose(0, 1)
    return out_TGJK.flatten(1, 2)


def _by_group(q_THK: Tensor, groups: int) -> Tensor:
    """`[G, T * J, K]`: the queries that share a key head are rows of one product."""
    return q_THK.unflatten(1, (groups, -1)).transpose(0, 1).flatten(1, 2)


def _sees(pos_L: Tensor, before: int, tokens: int, end: int, window: int | None) -> Tensor:
    """`[T, end]` by entry number, and by position where there is a window."""
    own_T = torch.arange(before, before + tokens, device=pos_L.device)
    entry_L = torch.arange(end, device=pos_L.device)
    sees_TL = entry_L[None] <= own_T[:, None]
    if window is None:
        return sees_TL
    pos_T = pos_L[own_T.clamp(max=len(pos_L) - 1)]
    return sees_TL & (pos_T[:, None] - pos_L[None, :end] < window)
