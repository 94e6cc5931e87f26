"""Mamba-2's mixer (arXiv 2405.21060): a causal convolution, a selective state space, a gated norm.

Shapes: R rows, T tokens of each, S slots, D width, H heads of P channels (E = H P), G groups, N state, W taps,
C = E + 2 G N channels that are convolved (x, B and C), M packed tokens (N elsewhere), L of them that are no padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from offramp.mixers._first_weights import init_conv, init_steps, uniform
from offramp.mixers._recurrent import (
    Recurrent,
    RecurrentState,
    Walk,
    driven_and_gates,
    outputs_of,
    with_padding,
)
from offramp.mixers.base import RUN_LIMIT, State
from offramp.ops.norm import RMSNorm, at_least_float32, gated_group_norm
from offramp.ops.rowwise import rowwise
from offramp.ops.ssd import ssd, ssm_read, ssm_update

CHUNK = 32  # of whole sequences: for gradients the decays within all chunks are kept
CELL_CHUNK = 64  # of prompt cells, where larger products are faster
A_RANGE = (1.0, 16.0)  # of first weights, as in Mamba-2's own code


@dataclass
class Mamba2State(RecurrentState):
    """The SSM states are `[2, S, H, P, N]`. A replay convolves the tape again; its step sizes are kept."""

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
        tape = weight.new_zeros(slots, taps - 1 + RUN_LIMIT, channels)
        ssm = weight.new_zeros(2, slots, self.heads, self.head_dim, self.state, dtype=precise)
        ring_dt = weight.new_zeros(slots, RUN_LIMIT, self.heads, dtype=precise)
        return Mamba2State(slots, tape, ssm, ring_dt)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        if state is None:
            z_RTE, xBC_RTC, dt_RTH = self._project(x)
            y_RTHP, _ = self._parallel(xBC_RTC, dt_RTH)
            return self._out(y_RTHP, z_RTE)
        assert isinstance(state, Mamba2State) and rows is not None and n is not None
        walk = self._append(state, rows, n)
        z_ME, xBC_MC, dt_MH = self._project(walk.steps.line_up(x))
        dt_LH = self._write_rings(state, walk, xBC_MC, dt_MH)
        x_LHP, B_LGN, C_LGN = self._split(self._convolved(state, walk))
        stepped = self._stepped(state, walk, self._driven(x_LHP, dt_LH, B_LGN))
        read_LHP = torch.cat([ssm_read(h_RHPN, C_LGN[tokens]) for tokens, h_RHPN in stepped])
        y_LHP = read_LHP + at_least_float32(self.D)[:, None] * x_LHP
        return walk.steps.pack(self._out(with_padding(y_LHP, len(x)), z_ME))

    def prefill(self, x_RTD: Tensor, state: State, rows: Sequence[int]) -> Tensor:
        return self.prefill_last(x_RTD, state, rows, x_RTD.shape[1])

    def prefill_last(self, x_RTD: Tensor, state: State, rows: Sequence[int], last: int) -> Tensor:
        assert isinstance(state, Mamba2State)
        driven, gates, before = slice(self.inner, None), slice(self.inner), x_RTD.shape[1] - last
        xBCdt_RTF, z_RLE = driven_and_gates(self.in_proj, x_RTD, driven, gates, last)
        xBC_RTC, dt_RTH = xBCdt_RTF.split((self.conv1d.in_channels, self.heads), dim=-1)
        y_RTHP, final_RHPN = self._parallel(xBC_RTC, dt_RTH, *self._begin_cell(state, rows))
        self._end_cell(state, rows, xBC_RTC, final_RHPN)
        return self._out(y_RTHP[:, before:], z_RLE)

    def advance(self, x_MD: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        assert isinstance(state, Mamba2State)
        walk = self._append(state, rows, n)
        driven = slice(self.inner, None)  # without the rows of z
        xBCdt_MF = outputs_of(self.in_proj, walk.steps.line_up(x_MD), driven)
        self._write_rings(state, walk, *xBCdt_MF.split((self.conv1d.in_channels, self.heads), dim=-1))
        self._settle(state, walk, self._drives(state, walk))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z `[..., E]`; the convolution's inputs xBC `[..., C]`; the raw step sizes dt `[..., H]`."""
        z, xBC, dt = self.in_proj(x).split((self.inner, self.conv1d.in_channels, self.heads), dim=-1)
        return z, xBC, dt

    def _out(self, y: Tensor, z: Tensor) -> Tensor:
        """y `[..., H, P]` and z `[..., E]` to `[..., D]`."""
        normed = gated_group_norm(y.flatten(-2), z, self.norm.weight, self.groups, self.norm.eps)
        return self.out_proj(normed)

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
        x, B, C = self._split(self._convolved_whole(xBC_RTC, window_RWC))
        dt_RTH = F.softplus(at_least_float32(dt_RTH) + self.dt_bias).clamp(*self.dt_limit)
        chunk = CHUNK if initial_RHPN is None else CELL_CHUNK
        return ssd(x, dt_RTH, self._A(), B, C, at_least_float32(self.D), chunk, initial_RHPN)

    def _A(self) -> Tensor:
        return -torch.exp(at_least_float32(self.A_log))

    def _write_rings(self, state: Mamba2State, walk: Walk, xBC_MC: Tensor, dt_MH: Tensor) -> Tensor:
        """Tokens go onto the tapes and into the ring; their step sizes `[L, H]`."""
        self._write_tapes(state, walk, xBC_MC)
        raw_LH = at_least_float32(dt_MH[: len(walk.ring_L)]) + self.dt_bias
        dt_LH = rowwise(F.softplus, raw_LH).clamp(*self.dt_limit)
        state.ring_dt.flatten(0, 1).index_copy_(0, walk.ring_L, dt_LH)
        return dt_LH

    def _driven(self, x_LHP: Tensor, dt_LH: Tensor, B_LGN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The arguments of `ssm_update`."""
        return x_LHP * dt_LH[..., None], rowwise(torch.exp, dt_LH * self._A()), B_LGN

    def _drives(self, state: RecurrentState, walk: Walk) -> tuple[Tensor, Tensor, Tensor]:
        assert isinstance(state, Mamba2State)
        x_LHP, B_LGN, _ = self._split(self._convolved(state, walk))
        return self._driven(x_LHP, state.ring_dt.flatten(0, 1).index_select(0, walk.ring_L), B_LGN)

    def _update(self, before: Tensor, after: Tensor, *drive: Tensor) -> None:
        ssm_update(before, after, *drive)
