"""Mamba-2's recurrence: in chunks for prompts and training, token by token for decoding (arXiv 2405.21060).

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T        y_t = h_t C_t + D x_t

Shapes: R rows, T tokens, H heads = G groups of J, P head dim, N state, c chunks of Q tokens, z = c + 1.
The heads of a group share B and C. dt arrives after its bias, softplus and clamp; A is negative. States and
decays have dt's dtype, float32 at least.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
    tokens, heads = dt_RTH.shape[1:]
    groups, dtype = B_RTGN.shape[2], dt_RTH.dtype
    xdt_RcQHP = _cut(x_RTHP * dt_RTH[..., None], chunk)
    B_RcGQN = _cut(B_RTGN.to(dtype), chunk).transpose(2, 3)
    C_RcGQN = _cut(C_RTGN.to(dtype), chunk).transpose(2, 3)
    log_RcQH = _cut(dt_RTH * A_H, chunk).cumsum(2)  # log of the decay since the chunk began

    remains = torch.exp(log_RcQH[:, :, -1:] - log_RcQH)[..., None]  # of each token at its chunk's end
    by_group = (xdt_RcQHP * remains).unflatten(3, (groups, -1)).flatten(4).transpose(2, 3)
    added_RcHPN = (by_group.mT @ B_RcGQN).unflatten(3, (heads // groups, -1)).flatten(2, 3).to(dtype)
    before_RcHPN, final_RHPN = _between_chunks(added_RcHPN, log_RcQH[:, :, -1], initial_RHPN)

    carried = C_RcGQN @ before_RcHPN.unflatten(2, (groups, -1)).flatten(3, 4).mT
    carried = carried.transpose(2, 3).reshape(xdt_RcQHP.shape) * torch.exp(log_RcQH)[..., None]
    y_RcQHP = _within_chunks(xdt_RcQHP, log_RcQH, B_RcGQN, C_RcGQN) + carried
    return y_RcQHP.flatten(1, 2)[:, :tokens] + D_H[:, None] * x_RTHP, final_RHPN


def _cut(x_RT: Tensor, chunk: int) -> Tensor:
    """`[R, T, ...]` -> `[R, c, Q, ...]`, zeros at the end: with dt = 0 a token neither decays nor adds."""
    missing = -x_RT.shape[1] % chunk
    if missing:
        x_RT = F.pad(x_RT, (0, 0) * (x_RT.dim() - 2) + (0, missing))
    return x_RT.unflatten(1, (-1, chunk))


def _decay_matrix(log_Q: Tensor) -> Tensor:
    """Decay from token j to token i, `[..., i, j]`, zero for j > i; logarithms until the last step."""
    size = log_Q.shape[-1]
    later = torch.ones(size, size, dtype=torch.bool, device=log_Q.device).triu(1)
    return (log_Q[..., :, None] - log_Q[..., None, :]).masked_fill(later, -torch.inf).exp()


def _within_chunks(xdt_RcQHP: Tensor, log_RcQH: Tensor, B_RcGQN: Tensor, C_RcGQN: Tensor) -> Tensor:
    """What a token reads of the tokens of its own chunk, `[R, c, Q, H, P]`."""
    scores_RcGQQ = C_RcGQN @ B_RcGQN.mT
    decay_RcHQQ = _decay_matrix(log_RcQH.transpose(2, 3))
    weights = scores_RcGQQ[:, :, :, None] * decay_RcHQQ.unflatten(2, (scores_RcGQQ.shape[2], -1))
    return (weights.flatten(2, 3) @ xdt_RcQHP.transpose(2, 3)).transpose(2, 3)


def _between_chunks(
    added_RcHPN: Tensor, log_RcH: Tensor, initial_RHPN: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The state before each chunk, `[R, c, H, P, N]`, and after the last. added: what each chunk leaves."""
    first = (
        torch.zeros_like(added_RcHPN[:, 0]) if initial_RHPN is None else initial_RHPN.to(added_RcHPN.dtype)
    )
    sources_RzHPN = torch.cat((first[:, None], added_RcHPN), dim=1)
    # float64: this sum runs over the whole sequence, and small differences of large logarithms are wanted.
    log_RHz = F.pad(log_RcH.double().cumsum(1), (0, 0, 1, 0)).transpose(1, 2)
    decay_RHzz = _decay_matrix(log_RHz).to(sources_RzHPN.dtype)
    with torch.autocast(added_RcHPN.device.type, enabled=False):
        states = decay_RHzz @ sources_RzHPN.transpose(1, 2).flatten(3)
    states_RzHPN = states.unflatten(3, first.shape[-2:]).transpose(1, 2)
    return states_RzHPN[:, :-1], states_RzHPN[:, -1]


def ssm_update(state_HPN: Tensor, xdt_HP: Tensor, decay_H: Tensor, B_GN: Tensor) -> Tensor:
    """The state after one token of one row. decay = exp(dt A), xdt = x dt.

    The shapes never vary and no sum runs over tokens, so the bits depend on this row and token alone.
    """
    added_GJPN = xdt_HP.unflatten(0, (len(B_GN), -1))[..., None] * B_GN[:, None, None]
    return state_HPN * decay_H[:, None, None] + added_GJPN.flatten(0, 1)


def ssm_read(state_HPN: Tensor, x_HP: Tensor, C_GN: Tensor, D_H: Tensor) -> Tensor:
    """y `[H, P]` of the token that `ssm_update` has just taken in; exact in the same way."""
    state_GJPN = state_HPN.unflatten(0, (len(C_GN), -1))
    return (state_GJPN * C_GN[:, None, None]).sum(-1).flatten(0, 1) + D_H[:, None] * x_HP


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
