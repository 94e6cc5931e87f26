"""Mamba-2's mixer (arXiv 2405.21060): a causal convolution, a selective state space, a gated norm.

Shapes: R rows, T tokens in this call, S slots, D width, H heads of P channels (E = H P), G groups, N state,
W taps, C = E + 2 G N channels that are convolved (x, B and C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from offramp.mixers._first_weights import init_conv, init_steps, uniform
from offramp.mixers._recurrent import Recurrent, RecurrentState
from offramp.mixers.base import RUN_LIMIT, State
from offramp.ops.conv import causal_conv
from offramp.ops.norm import RMSNorm, at_least_float32, gated_group_norm
from offramp.ops.rowwise import rowwise
from offramp.ops.ssd import ssd, ssm_read, ssm_update

CHUNK = 32
A_RANGE = (1.0, 16.0)  # of first weights, as in Mamba-2's own code


@dataclass
class Mamba2State(RecurrentState):
    """The SSM states are `[2, S, H, P, N]`. A replay convolves the ring again; its step sizes are kept."""

    ring_dt: Tensor  # [S, RUN_LIMIT, H] after bias, softplus and clamp


class Mamba2(Recurrent):
    """groups of heads share B and C, and are normed together; dt_limit clamps the step after its softplus."""

    def __init__(
        self,
        width: int,
        inner: int | None = None,
        head_dim: int = 64,
        state: int = 128,
        groups: int = 1,
        taps: int = 4,
        bias: bool = False,
        conv_bias: bool = True,
        dt_limit: tuple[float, float] = (0.0, float("inf")),
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.inner = inner or 2 * width
        self.heads, self.head_dim = self.inner // head_dim, head_dim
        self.state, self.groups, self.dt_limit = state, groups, dt_limit
        assert self.heads * head_dim == self.inner and self.heads % groups == 0
        channels = self.inner + 2 * groups * state
        self.in_proj = nn.Linear(width, self.inner + channels + self.heads, bias=bias)
        self.conv1d = nn.Conv1d(channels, channels, taps, groups=channels, bias=conv_bias)
        self.dt_bias = nn.Parameter(torch.zeros(self.heads))
        self.A_log = nn.Parameter(torch.zeros(self.heads))
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = RMSNorm(self.inner, norm_eps)
        self.out_proj = nn.Linear(self.inner, width, bias=bias)

    def init_weights(self, generator: Generator) -> None:
        init_conv(self.conv1d, generator)
        self.A_log.copy_(uniform(self.A_log, A_RANGE, generator).log())
        init_steps(self.dt_bias, generator)
        self.D.fill_(1.0)

    def init_state(self, slots: int, max_len: int) -> Mamba2State:
        weight, channels, taps = self.in_proj.weight, *self.conv1d.weight.shape[::2]
        precise = torch.promote_types(weight.dtype, torch.float32)
        window = weight.new_zeros(slots, taps - 1, channels)
        ssm = weight.new_zeros(2, slots, self.heads, self.head_dim, self.state, dtype=precise)
        ring = weight.new_zeros(slots, RUN_LIMIT, channels)
        ring_dt = weight.new_zeros(slots, RUN_LIMIT, self.heads, dtype=precise)
        return Mamba2State(slots, window, ssm, ring, ring_dt)

    def forward(
        self,
        x_RTD: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        z_RTE, xBC_RTC, dt_RTH = self._project(x_RTD)
        if state is None:
            y_RTHP, _ = self._parallel(xBC_RTC, dt_RTH)
            return self._out(y_RTHP, z_RTE)
        assert isinstance(state, Mamba2State) and rows is not None and n is not None
        y_RTHP = state.ssm.new_zeros(*x_RTD.shape[:2], self.heads, self.head_dim)
        D_H = at_least_float32(self.D)
        for row, (slot, count) in enumerate(zip(rows, n, strict=True)):
            start = self._push(state, slot, xBC_RTC[row, :count], dt_RTH[row, :count])
            x_THP, B_TGN, C_TGN = self._ring_xBC(state, slot, start)
            drives = self._driven(state, slot, start, x_THP, B_TGN)
            for t, h_HPN in enumerate(self._walk(state, slot, start, drives)):
                y_RTHP[row, t] = ssm_read(h_HPN, x_THP[t], C_TGN[t], D_H)
        return self._out(y_RTHP, z_RTE)

    def prefill(self, x_RTD: Tensor, state: State, rows: Sequence[int]) -> Tensor:
        assert isinstance(state, Mamba2State)
        z_RTE, xBC_RTC, dt_RTH = self._project(x_RTD)
        y_RTHP, final_RHPN = self._parallel(xBC_RTC, dt_RTH, *self._begin_cell(state, rows))
        self._end_cell(state, rows, xBC_RTC, final_RHPN)
        return self._out(y_RTHP, z_RTE)

    def advance(self, x_RTD: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        assert isinstance(state, Mamba2State)
        bias = None if self.in_proj.bias is None else self.in_proj.bias[self.inner :]
        xBCdt_RTF = F.linear(x_RTD, self.in_proj.weight[self.inner :], bias)  # without the rows of z
        xBC_RTC, dt_RTH = xBCdt_RTF.split((xBCdt_RTF.shape[-1] - self.heads, self.heads), dim=-1)
        for slot, count, xBC_TC, dt_TH in zip(rows, n, xBC_RTC, dt_RTH, strict=True):
            start = self._push(state, slot, xBC_TC[:count], dt_TH[:count])
            self._settle(state, slot, start)

    def _project(self, x_RTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z `[R, T, E]`; the convolution's inputs xBC `[R, T, C]`; the raw step sizes dt `[R, T, H]`."""
        sizes = (self.inner, self.conv1d.in_channels, self.heads)
        z_RTE, xBC_RTC, dt_RTH = self.in_proj(x_RTD).split(sizes, dim=-1)
        return z_RTE, xBC_RTC, dt_RTH

    def _out(self, y_RTHP: Tensor, z_RTE: Tensor) -> Tensor:
        y_RTE = gated_group_norm(y_RTHP.flatten(2), z_RTE, self.norm.weight, self.groups, self.norm.eps)
        return self.out_proj(y_RTE)

    def _split(self, xBC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x `[..., H, P]`, B and C `[..., G, N]` of what the convolution gave."""
        shared = self.groups * self.state
        x, B, C = xBC.split((self.inner, shared, shared), dim=-1)
        by_group = (self.groups, self.state)
        return (
            x.unflatten(-1, (self.heads, self.head_dim)),
            B.unflatten(-1, by_group),
            C.unflatten(-1, by_group),
        )

    def _parallel(
        self,
        xBC_RTC: Tensor,
        dt_RTH: Tensor,
        window_RWC: Tensor | None = None,
        initial_RHPN: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """All tokens at once: y `[R, T, H, P]` and the final SSM state `[R, H, P, N]`."""
        xBC_RTC = F.silu(causal_conv(xBC_RTC, self.conv1d.weight[:, 0], self.conv1d.bias, window_RWC))
        dt_RTH = F.softplus(at_least_float32(dt_RTH) + self.dt_bias).clamp(*self.dt_limit)
        x, B, C = self._split(xBC_RTC)
        return ssd(x, dt_RTH, self._A(), B, C, at_least_float32(self.D), CHUNK, initial_RHPN)

    def _A(self) -> Tensor:
        return -torch.exp(at_least_float32(self.A_log))

    def _push(self, state: Mamba2State, slot: int, xBC_TC: Tensor, dt_TH: Tensor) -> int:
        """Append tokens to the slot's rings; the place of the first."""
        places = self._append(state, slot, xBC_TC)
        raw_TH = at_least_float32(dt_TH) + self.dt_bias
        state.ring_dt[slot, places] = rowwise(F.softplus, raw_TH).clamp(*self.dt_limit)
        return places.start

    def _ring_xBC(self, state: RecurrentState, slot: int, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """x `[T, H, P]`, B and C `[T, G, N]` of the ring's tokens from `start` on."""
        inputs_TC = state.ring[slot, start : state.provisional[slot]]
        return self._split(self._convolved(state, slot, start, inputs_TC))

    def _driven(
        self, state: RecurrentState, slot: int, start: int, x_THP: Tensor, B_TGN: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The arguments of `ssm_update` for those tokens."""
        assert isinstance(state, Mamba2State)
        dt_TH = state.ring_dt[slot, start : state.provisional[slot]]
        return x_THP * dt_TH[..., None], rowwise(torch.exp, dt_TH * self._A()), B_TGN

    def _drives(self, state: RecurrentState, slot: int, start: int) -> tuple[Tensor, Tensor, Tensor]:
        x_THP, B_TGN, _ = self._ring_xBC(state, slot, start)
        return self._driven(state, slot, start, x_THP, B_TGN)

    def _update(self, ssm: Tensor, *drive: Tensor) -> Tensor:
        return ssm_update(ssm, *drive)
