"""Mamba's mixer, the first one (arXiv 2312.00752): a causal convolution, a selective scan, a gate.

FalconMamba's (arXiv 2410.05355) is the same with norms, without weights, on dt, B and C.

Shapes: R rows, T tokens of each, S slots, D width, E inner width, N state, K rank of the step size, W taps,
M packed tokens (N elsewhere), L of them that are no padding.
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
from offramp.ops.norm import at_least_float32
from offramp.ops.rowwise import rowwise
from offramp.ops.scan import scan_read, scan_update, selective_scan

CHUNK = 32


@dataclass
class MambaState(RecurrentState):
    """The SSM states are `[2, S, E, N]`. A replay needs no product with a weight."""

    ring_u: Tensor  # [S, RUN_LIMIT, E] what the convolution gave
    ring_dt: Tensor  # [S, RUN_LIMIT, E] after bias and softplus
    ring_B: Tensor  # [S, RUN_LIMIT, N] after its norm, if it has one

    @property
    def rings(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.ring_u, self.ring_dt, self.ring_B


class Mamba(Recurrent):
    """rank: of the step size's projection, width / 16 by default. rms_eps: of the norms of dt, B and C, if any."""

    def __init__(
        self,
        width: int,
        inner: int | None = None,
        state: int = 16,
        rank: int | None = None,
        taps: int = 4,
        bias: bool = False,
        conv_bias: bool = True,
        rms_eps: float | None = None,
    ) -> None:
        super().__init__()
        inner, rank = inner or 2 * width, rank or -(-width // 16)
        self.state, self.rank, self.rms_eps = state, rank, rms_eps
        self.in_proj = nn.Linear(width, 2 * inner, bias=bias)
        self.conv1d = nn.Conv1d(inner, inner, taps, groups=inner, bias=conv_bias)
        self.x_proj = nn.Linear(inner, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.zeros(inner, state))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=bias)

    def init_weights(self, generator: Generator) -> None:
        """As Mamba's own code: every channel decays by 1, 2, ..., N; what reads the step size keeps its variance."""
        init_conv(self.conv1d, generator)
        self.A_log.copy_(torch.arange(1.0, self.state + 1).log())
        bound = self.rank**-0.5
        self.dt_proj.weight.copy_(uniform(self.dt_proj.weight, (-bound, bound), generator))
        init_steps(self.dt_proj.bias, generator)
        self.D.fill_(1.0)

    def init_state(self, slots: int, max_len: int) -> MambaState:
        weight, (inner, _, taps) = self.in_proj.weight, self.conv1d.weight.shape
        precise = torch.promote_types(weight.dtype, torch.float32)
        ring_u, ring_dt = weight.new_zeros(2, slots, RUN_LIMIT, inner, dtype=precise)
        return MambaState(
            slots,
            tape=weight.new_zeros(slots, taps - 1 + RUN_LIMIT, inner),
            ssm=weight.new_zeros(2, slots, inner, self.state, dtype=precise),
            ring_u=ring_u,
            ring_dt=ring_dt,
            ring_B=weight.new_zeros(slots, RUN_LIMIT, self.state, dtype=precise),
        )

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        if state is None:
            inputs_RTE, z_RTE = self.in_proj(x).chunk(2, dim=-1)
            y_RTE, _ = self._parallel(inputs_RTE)
            return self._out(y_RTE, F.silu(at_least_float32(z_RTE)))
        assert isinstance(state, MambaState) and rows is not None and n is not None
        walk = self._append(state, rows, n)
        inputs_ME, z_ME = self.in_proj(walk.steps.line_up(x)).chunk(2, dim=-1)
        u_ME, dt_ME, B_MN = self._push(state, walk, inputs_ME)
        C_MN = at_least_float32(self._normed(self._select(u_ME, slice(-self.state, None))))
        stepped = self._stepped(state, walk, (dt_ME, dt_ME * u_ME, B_MN))
        read_LE = torch.cat([scan_read(h_REN, C_MN[tokens]) for tokens, h_REN in stepped])
        y_ME = with_padding(read_LE, len(x)) + at_least_float32(self.D) * u_ME
        return walk.steps.pack(self._out(y_ME, rowwise(F.silu, at_least_float32(z_ME))))

    def prefill(self, x_RTD: Tensor, state: State, rows: Sequence[int]) -> Tensor:
        return self.prefill_last(x_RTD, state, rows, x_RTD.shape[1])

    def prefill_last(self, x_RTD: Tensor, state: State, rows: Sequence[int], last: int) -> Tensor:
        assert isinstance(state, MambaState)
        inner, before = self.conv1d.in_channels, x_RTD.shape[1] - last
        inputs_RTE, z_RLE = driven_and_gates(self.in_proj, x_RTD, slice(inner), slice(inner, None), last)
        y_RTE, final_REN = self._parallel(inputs_RTE, *self._begin_cell(state, rows))
        self._end_cell(state, rows, inputs_RTE, final_REN)
        return self._out(y_RTE[:, before:], F.silu(at_least_float32(z_RLE)))

    def advance(self, x_MD: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        assert isinstance(state, MambaState)
        walk, inputs = self._append(state, rows, n), slice(self.conv1d.in_channels)  # without the rows of z
        inputs_ME = outputs_of(self.in_proj, walk.steps.line_up(x_MD), inputs)
        u_ME, dt_ME, B_MN = self._push(state, walk, inputs_ME)
        self._settle(state, walk, (dt_ME, dt_ME * u_ME, B_MN))

    def _parallel(
        self, inputs_RTE: Tensor, window_RWE: Tensor | None = None, initial_REN: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """All tokens at once: y `[R, T, E]` and the final SSM state `[R, E, N]`."""
        u_RTE = self._convolved_whole(inputs_RTE, window_RWE)
        selected = self.x_proj(u_RTE.to(self.x_proj.weight.dtype))
        low_RTK, B_RTN, C_RTN = selected.split((self.rank, self.state, self.state), dim=-1)
        dt_RTE, B_RTN, C_RTN = F.softplus(self._step(low_RTK)), self._normed(B_RTN), self._normed(C_RTN)
        D_E = at_least_float32(self.D)
        return selective_scan(u_RTE, dt_RTE, self._A(), B_RTN, C_RTN, D_E, CHUNK, initial_REN)

    def _out(self, y: Tensor, gate: Tensor) -> Tensor:
        return self.out_proj((y * gate).to(self.out_proj.weight.dtype))

    def _select(self, u: Tensor, outputs: slice) -> Tensor:
        """Some outputs of x_proj, which are the step size's, then B, then C."""
        weight = self.x_proj.weight[outputs]
        return F.linear(u.to(weight.dtype), weight)

    def _step(self, low: Tensor) -> Tensor:
        """The step size before its softplus, `[..., E]` of `[..., K]`; the bias is added in float32."""
        raw = F.linear(self._normed(low), self.dt_proj.weight)
        return at_least_float32(raw) + at_least_float32(self.dt_proj.bias)

    def _normed(self, x: Tensor) -> Tensor:
        if self.rms_eps is None:
            return x
        return F.rms_norm(at_least_float32(x), x.shape[-1:], eps=self.rms_eps).to(x.dtype)

    def _A(self) -> Tensor:
        return -torch.exp(at_least_float32(self.A_log))

    def _push(self, state: MambaState, walk: Walk, inputs_ME: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens go onto the tapes and into the rings; what the rings keep of them, u and dt `[M, E]`, B `[M, N]`.

        The padding goes through the products too: their bits depend on how many tokens share the call.
        """
        self._write_tapes(state, walk, inputs_ME)
        u_ME = with_padding(self._convolved(state, walk), len(inputs_ME))
        low_MK, B_MN = self._select(u_ME, slice(-self.state)).split((self.rank, self.state), dim=-1)
        dt_ME, B_MN = rowwise(F.softplus, self._step(low_MK)), at_least_float32(self._normed(B_MN))
        pushed = (u_ME, dt_ME, B_MN)
        for ring, value_M in zip(state.rings, pushed, strict=True):
            ring.flatten(0, 1).index_copy_(0, walk.ring_L, value_M[: len(walk.ring_L)])
        return pushed

    def _drives(self, state: RecurrentState, walk: Walk) -> tuple[Tensor, Tensor, Tensor]:
        assert isinstance(state, MambaState)
        u_LE, dt_LE, B_LN = (ring.flatten(0, 1).index_select(0, walk.ring_L) for ring in state.rings)
        return dt_LE, dt_LE * u_LE, B_LN

    def _update(self, before: Tensor, after: Tensor, *drive: Tensor) -> None:
        scan_update(before, after, self._A(), *drive)
