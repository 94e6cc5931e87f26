"""Mamba-2's recurrence: in chunks for prompts and training, token by token for decoding (arXiv 2405.21060).

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T        y_t = h_t C_t + D x_t

Shapes: R rows, T tokens, H heads = G groups of J, P head dim, N state, c chunks of Q tokens, F = J P.
The heads of a group share B and C. dt arrives after its bias, softplus and clamp; A is negative. States and
decays have dt's dtype, float32 at least.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FAINTEST = -60.0
"""The log of a decay below which it is not taken: products with floats too small for their full precision take a
hundred times as long."""


def ssd(
    x_RTHP: Tensor,
    dt_RTH: Tensor,
    A_H: Tensor,
    B_RTGN: Tensor,
    C_RTGN: Tensor,
    D_H: Tensor,
    chunk: int = 64,
    initial_RHPN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y `[R, T, H, P]` and the final state `[R, H, P, N]`: attention in chunks, recurrence between them."""
    tokens, groups, dtype = dt_RTH.shape[1], B_RTGN.shape[2], dt_RTH.dtype
    xdt_RcQHP = _cut(x_RTHP * dt_RTH[..., None], chunk)
    B_RcGQN = _cut(B_RTGN.to(dtype), chunk).transpose(2, 3)
    C_RcGQN = _cut(C_RTGN.to(dtype), chunk).transpose(2, 3)
    log_RcHQ = _cut(dt_RTH * A_H, chunk).transpose(2, 3).contiguous().cumsum(3)  # since the chunk began
    since, until = (_decay(log).mT[..., None] for log in (log_RcHQ, log_RcHQ[..., -1:] - log_RcHQ))

    by_group = (xdt_RcQHP * until).unflatten(3, (groups, -1)).flatten(4).transpose(2, 3)
    added_RcHPN = (by_group.mT @ B_RcGQN).view(*log_RcHQ.shape[:3], -1, B_RTGN.shape[3]).to(dtype)
    read_RcGQF, final_RHPN = _between_chunks(added_RcHPN, since[:, :, -1], C_RcGQN, initial_RHPN)

    within_RcQHP = _within_chunks(xdt_RcQHP, log_RcHQ, B_RcGQN, C_RcGQN)
    y_RcQHP = torch.addcmul(within_RcQHP, read_RcGQF.transpose(2, 3).reshape(xdt_RcQHP.shape), since)
    return torch.addcmul(y_RcQHP.flatten(1, 2)[:, :tokens], D_H[:, None], x_RTHP), final_RHPN


def _cut(x_RT: Tensor, chunk: int) -> Tensor:
    """`[R, T, ...]` -> `[R, c, Q, ...]`, zeros at the end: with dt = 0 a token neither decays nor adds."""
    missing = -x_RT.shape[1] % chunk
    if missing:
        x_RT = F.pad(x_RT, (0, 0) * (x_RT.dim() - 2) + (0, missing))
    return x_RT.unflatten(1, (-1, chunk))


def _decay(log: Tensor) -> Tensor:
    return log.clamp(FAINTEST, 0).exp()


def _within_chunks(xdt_RcQHP: Tensor, log_RcHQ: Tensor, B_RcGQN: Tensor, C_RcGQN: Tensor) -> Tensor:
    """What a token reads of the tokens of its own chunk, `[R, c, Q, H, P]`."""
    size, groups = log_RcHQ.shape[-1], B_RcGQN.shape[2]
    later_QQ = torch.ones(size, size, dtype=torch.bool, device=log_RcHQ.device).triu(1)
    scores_RcGQQ = (C_RcGQN @ B_RcGQN.mT).masked_fill(later_QQ, 0)
    decay_RcHQQ = _decay(log_RcHQ[..., :, None] - log_RcHQ[..., None, :])  # from token j to token i
    weights = scores_RcGQQ[:, :, :, None] * decay_RcHQQ.unflatten(2, (groups, -1))
    return (weights.flatten(2, 3) @ xdt_RcQHP.transpose(2, 3)).transpose(2, 3)


def _between_chunks(
    added_RcHPN: Tensor, decay_RcH1: Tensor, C_RcGQN: Tensor, initial_RHPN: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What tokens read of the state before their chunk, `[R, c, G, Q, F]`, and the state after the last chunk.

    added: what each chunk leaves. decay: over all of it.
    """
    h_RHPN, groups, read = initial_RHPN, C_RcGQN.shape[2], []
    h_RHPN = torch.zeros_like(added_RcHPN[:, 0]) if h_RHPN is None else h_RHPN.to(added_RcHPN.dtype)
    for c, added_RHPN in enumerate(added_RcHPN.unbind(1)):
        read.append(C_RcGQN[:, c] @ h_RHPN.unflatten(1, (groups, -1)).flatten(2, 3).mT)
        h_RHPN = torch.addcmul(added_RHPN, h_RHPN, decay_RcH1[:, c, :, None])
    return torch.stack(read, dim=1), h_RHPN


def ssm_update(
    before_RHPN: Tensor, after_RHPN: Tensor, xdt_RHP: Tensor, decay_RH: Tensor, B_RGN: Tensor
) -> None:
    """One token of each row: before to after, contiguous both and maybe the same. decay = exp(dt A), xdt = x dt.

    Elementwise and never over tokens or rows, so a row's bits depend on this row and token alone.
    """
    torch.mul(before_RHPN, decay_RH[..., None, None], out=after_RHPN)
    by_group = after_RHPN.view(len(after_RHPN), B_RGN.shape[1], -1, B_RGN.shape[2])
    by_group.add_(xdt_RHP.reshape(*by_group.shape[:3], 1) * B_RGN[:, :, None])


def ssm_read(state_RHPN: Tensor, C_RGN: Tensor) -> Tensor:
    """h C `[R, H, P]` of the tokens that `ssm_update` has just taken in; exact in the same way."""
    by_group = state_RHPN.view(len(state_RHPN), C_RGN.shape[1], -1, C_RGN.shape[2])
    return (by_group * C_RGN[:, :, None]).sum(-1).view(state_RHPN.shape[:3])


def ssd_naive(
    x_RTHP: Tensor,
    dt_RTH: Tensor,
    A_H: Tensor,
    B_RTGN: Tensor,
    C_RTGN: Tensor,
    D_H: Tensor,
    initial_RHPN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The recurrence as written at the head of this file."""
    rows, tokens, heads, head_dim = x_RTHP.shape
    share = heads // B_RTGN.shape[2]
    B_RTHN, C_RTHN = (part.repeat_interleave(share, dim=2) for part in (B_RTGN, C_RTGN))
    h_RHPN = (
        x_RTHP.new_zeros(rows, heads, head_dim, B_RTGN.shape[3]) if initial_RHPN is None else initial_RHPN
    )
    outputs = []
    for t in range(tokens):
        decay_RH = torch.exp(dt_RTH[:, t] * A_H)
        added = (x_RTHP[:, t] * dt_RTH[:, t, :, None])[..., None] * B_RTHN[:, t, :, None]
        h_RHPN = h_RHPN * decay_RH[..., None, None] + added
        outputs.append((h_RHPN * C_RTHN[:, t, :, None]).sum(-1) + D_H[:, None] * x_RTHP[:, t])
    return torch.stack(outputs, dim=1), h_RHPN
