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
