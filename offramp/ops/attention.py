"""Causal grouped attention of whole sequences: for training, prompts and oracles.

Shapes: R rows, T tokens, L entries, H query heads, G key-value heads (H = G * J), K head dim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q_RTHK: Tensor, k_RTGK: Tensor, v_RTGK: Tensor, window: int | None) -> Tensor:
    """`[R, T, H, K]`: token t sees tokens u <= t, and with a window only those with t - u < window."""
    q, k, v = (part.transpose(1, 2) for part in (q_RTHK, k_RTGK, v_RTGK))
    tokens = q.shape[2]
    shared = q.shape[1] != k.shape[1]
    if window is None or tokens <= window:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared).transpose(1, 2)
    place = torch.arange(tokens, device=q.device)
    sees = visible(place, place, window)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=sees, enable_gqa=shared).transpose(1, 2)


def attend_cell(
    q_THK: Tensor, k_LGK: Tensor, v_LGK: Tensor, pos_T: Tensor, pos_L: Tensor, window: int | None
) -> Tensor:
    """`[T, H, K]` for a prompt cell of one row: its T tokens' own entries are the last of the L."""
    if len(q_THK) == len(k_LGK):
        return attend(q_THK[None], k_LGK[None], v_LGK[None], window)[0]
    q, k, v = (part.transpose(0, 1)[None] for part in (q_THK, k_LGK, v_LGK))
    sees_TL = None if len(q_THK) == 1 and window is None else visible(pos_T, pos_L, window)
    shared = q.shape[1] != k.shape[1]
    k, v = k.contiguous(), v.contiguous()  # turned, PyTorch's fused kernels do not take them
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=sees_TL, enable_gqa=shared)
    return out[0].transpose(0, 1)


def visible(pos_T: Tensor, pos_L: Tensor, window: int | None) -> Tensor:
    """Which entries each query sees, `[T, L]`: by position none after it, none `window` or more before it."""
    distance_TL = pos_T[:, None] - pos_L[None, :]
    return (distance_TL >= 0) if window is None else (distance_TL >= 0) & (distance_TL < window)


def attend_naive(q_RTHK: Tensor, k_RTGK: Tensor, v_RTGK: Tensor, window: int | None) -> Tensor:
    share = q_RTHK.shape[2] // k_RTGK.shape[2]
    k_RTHK, v_RTHK = (part.repeat_interleave(share, dim=2) for part in (k_RTGK, v_RTGK))
    outputs = []
    for t in range(q_RTHK.shape[1]):
        first = 0 if window is None else max(0, t - window + 1)
        keys, values = k_RTHK[:, first : t + 1], v_RTHK[:, first : t + 1]
        scores_RLH = (q_RTHK[:, t, None] * keys).sum(-1) / q_RTHK.shape[3] ** 0.5
        outputs.append((scores_RLH.softmax(1)[..., None] * values).sum(1))
    return torch.stack(outputs, dim=1)
