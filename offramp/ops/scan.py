"""Mamba-1's recurrence, the selective scan (arXiv 2312.00752): in chunks for prompts and training, token by token
for decoding.

    h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_t        y_t = h_t C_t + D u_t

Every channel has a decay of its own for every state number, so the chunks cannot be attention as Mamba-2's are.

Shapes: R rows, T tokens, E channels, N state, Q tokens of a chunk. dt arrives after its bias and softplus; A is
negative. States and decays have dt's dtype, float32 at least.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from offramp.native.library import Library, find
from offramp.native.selective_scan import selective_scan as scan_cells
from offramp.ops.rowwise import rowwise


def selective_scan(
    u_RTE: Tensor,
    dt_RTE: Tensor,
    A_EN: Tensor,
    B_RTN: Tensor,
    C_RTN: Tensor,
    D_E: Tensor,
    chunk: int = 32,
    initial_REN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y `[R, T, E]` and the final state `[R, E, N]`: by the kernel where there is one and nobody wants gradients.

    Never more than `[R, Q, E, N]` at a time: with gradients only the states between chunks are kept, and each
    chunk is computed again on the way back (the paper's section 3.3.2).
    """
    if (library := _kernels_for(dt_RTE)) is not None:
        return scan_cells(library, u_RTE, dt_RTE, A_EN, B_RTN, C_RTN, D_E, initial_REN)
    dtype, outputs = dt_RTE.dtype, []
    u_RTE, B_RTN, C_RTN = (part.to(dtype) for part in (u_RTE, B_RTN, C_RTN))
    h_REN = dt_RTE.new_zeros(len(u_RTE), *A_EN.shape) if initial_REN is None else initial_REN.to(dtype)
    for part in zip(*(whole.split(chunk, dim=1) for whole in (u_RTE, dt_RTE, B_RTN, C_RTN)), strict=True):
        if torch.is_grad_enabled():
            y_RQE, h_REN = checkpoint(
                _chunk, h_REN, A_EN, *part, use_reentrant=False, preserve_rng_state=False
            )
        else:
            y_RQE, h_REN = _chunk(h_REN, A_EN, *part)
        outputs.append(y_RQE)
    return torch.cat(outputs, dim=1) + D_E * u_RTE, h_REN


def _kernels_for(dt: Tensor) -> Library | None:
    """Those that scan numbers of dt's kind; they know no gradients."""
    fits = dt.device.type == "cpu" and dt.dtype == torch.float32
    return find() if fits and not torch.is_grad_enabled() else None


def _chunk(
    h_REN: Tensor, A_EN: Tensor, u_RQE: Tensor, dt_RQE: Tensor, B_RQN: Tensor, C_RQN: Tensor
) -> tuple[Tensor, Tensor]:
    """What the states give `[R, Q, E]`, without D u, and the state after the chunk `[R, E, N]`."""
    decay_RQEN = torch.exp(dt_RQE[..., None] * A_EN)
    added_RQEN = (dt_RQE * u_RQE)[..., None] * B_RQN[:, :, None]
    states = []
    for decay_REN, added_REN in zip(decay_RQEN.unbind(1), added_RQEN.unbind(1), strict=True):
        h_REN = torch.addcmul(added_REN, h_REN, decay_REN)
        states.append(h_REN)
    with torch.autocast(h_REN.device.type, enabled=False):
        return (torch.stack(states, dim=1) @ C_RQN[..., None]).squeeze(-1), h_REN


def scan_update(
    before_REN: Tensor, after_REN: Tensor, A_EN: Tensor, dt_RE: Tensor, dtu_RE: Tensor, B_RN: Tensor
) -> None:
    """One token of each row: before to after, which may be the same. dtu = dt u.

    Elementwise and never over tokens or rows, so a row's bits depend on this row and token alone.
    """
    decay_RF = rowwise(torch.exp, (dt_RE[..., None] * A_EN).flatten(1))
    torch.mul(before_REN, decay_RF.unflatten(1, A_EN.shape), out=after_REN)
    after_REN.add_(dtu_RE[..., None] * B_RN[:, None])


def scan_read(h_REN: Tensor, C_RN: Tensor) -> Tensor:
    """h C `[R, E]` of the tokens that `scan_update` has just taken in; exact in the same way."""
    return (h_REN * C_RN[:, None]).sum(-1)


def selective_scan_naive(
    u_RTE: Tensor,
    dt_RTE: Tensor,
    A_EN: Tensor,
    B_RTN: Tensor,
    C_RTN: Tensor,
    D_E: Tensor,
    initial_REN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The recurrence as written at the head of this file."""
    h_REN = u_RTE.new_zeros(len(u_RTE), *A_EN.shape) if initial_REN is None else initial_REN
    outputs = []
    for t in range(u_RTE.shape[1]):
        decay_REN = torch.exp(dt_RTE[:, t, :, None] * A_EN)
        added_REN = dt_RTE[:, t, :, None] * u_RTE[:, t, :, None] * B_RTN[:, t, None]
        h_REN = decay_REN * h_REN + added_REN
        outputs.append((h_REN * C_RTN[:, t, None]).sum(-1) + D_E * u_RTE[:, t])
    return torch.stack(outputs, dim=1), h_REN
