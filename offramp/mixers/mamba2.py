"""Mamba-2's mixer (arXiv 2405.21060): a causal convolution, a selective state space, a gated norm.

Provisional tokens never touch the final state: a slot has two SSM states, `base` (final) and `work` (base and
the provisional tokens), and a ring of the provisional tokens' inputs. Committing all of them swaps the two;
committing or keeping a part replays that part from base with the same steps, so the bits are those of a slot
that never saw the others.

Shapes: R rows, T tokens in this call, S slots, D width, H heads of P channels (E = H P), G groups, N state,
W taps, C = E + 2 G N channels that are convolved (x, B and C), M = W - 1 + T inputs of the convolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.mixers.base import RUN_LIMIT, Mixer, State
from offramp.ops.conv import causal_conv, conv_tokens, next_window
from offramp.ops.norm import RMSNorm, at_least_float32, gated_group_norm
from offramp.ops.rowwise import rowwise
from offramp.ops.ssd import ssd, ssm_read, ssm_update

CHUNK = 32


@dataclass
class Mamba2State(State):
    """base[slot] says which of the two SSM states is final; the window, too, is of the final tokens."""

    window: Tensor  # [S, W-1, C] inputs of the convolution
    ssm: Tensor  # [2, S, H, P, N]
    ring_xBC: Tensor  # [S, RUN_LIMIT, C] provisional tokens' inputs of the convolution
    ring_dt: Tensor  # [S, RUN_LIMIT, H] after bias, softplus and clamp
    base: list[int] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.base = [0] * self.slots


class Mamba2(Mixer):
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

    def init_state(self, slots: int, max_len: int) -> Mamba2State:
        weight, channels, taps = self.in_proj.weight, *self.conv1d.weight.shape[::2]
        precise = torch.promote_types(weight.dtype, torch.float32)
        window = weight.new_zeros(slots, taps - 1, channels)
        ssm = weight.new_zeros(2, slots, self.heads, self.head_dim, self.state, dtype=precise)
        ring_xBC = weight.new_zeros(slots, RUN_LIMIT, channels)
        ring_dt = weight.new_zeros(slots, RUN_LIMIT, self.heads, dtype=precise)
        return Mamba2State(slots, window, ssm, ring_xBC, ring_dt)

    def reset(self, state: State, slot: int) -> None:
        assert isinstance(state, Mamba2State)
        state.window[slot] = 0
        state.ssm[:, slot] = 0
        state.position[slot] = state.provisional[slot] = 0

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
            for t, (h_HPN, x_HP, C_GN) in enumerate(self._walk(state, slot, start)):
                y_RTHP[row, t] = ssm_read(h_HPN, x_HP, C_GN, D_H)
        return self._out(y_RTHP, z_RTE)

    def prefill(self, x_RTD: Tensor, state: State, rows: Sequence[int]) -> Tensor:
        assert isinstance(state, Mamba2State)
        assert all(state.provisional[slot] == 0 for slot in rows), "a prompt cell follows final tokens only"
        slots, bases = list(rows), [state.base[slot] for slot in rows]
        z_RTE, xBC_RTC, dt_RTH = self._project(x_RTD)
        window_RWC = state.window[slots]
        y_RTHP, final_RHPN = self._parallel(xBC_RTC, dt_RTH, window_RWC, state.ssm[bases, slots])
        state.window[slots] = next_window(window_RWC, xBC_RTC)
        state.ssm[bases, slots] = final_RHPN
        for slot in slots:
            state.position[slot] += x_RTD.shape[1]
        return self._out(y_RTHP, z_RTE)

    def advance(self, x_RTD: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        assert isinstance(state, Mamba2State)
        bias = None if self.in_proj.bias is None else self.in_proj.bias[self.inner :]
        xBCdt_RTF = F.linear(x_RTD, self.in_proj.weight[self.inner :], bias)  # without the rows of z
        xBC_RTC, dt_RTH = xBCdt_RTF.split((xBCdt_RTF.shape[-1] - self.heads, self.heads), dim=-1)
        for slot, count, xBC_TC, dt_TH in zip(rows, n, xBC_RTC, dt_RTH, strict=True):
            start = self._push(state, slot, xBC_TC[:count], dt_TH[:count])
            self._settle(state, slot, start)

    def commit(self, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        assert isinstance(state, Mamba2State)
        for slot, count in zip(rows, n, strict=True):
            assert count <= state.provisional[slot], "only tokens that were pushed can be committed"
            self.rollback(state, [slot], count)
            if count:
                state.base[slot] = 1 - state.base[slot]
                ring_1TC = state.ring_xBC[slot, None, :count]
                state.window[slot, None] = next_window(state.window[slot, None], ring_1TC)
            state.position[slot] += count
            state.provisional[slot] = 0

    def rollback(self, state: State, rows: Sequence[int], keep: int = 0) -> None:
        assert isinstance(state, Mamba2State)
        for slot in rows:
            if state.provisional[slot] > keep:
                state.provisional[slot] = keep
                self._settle(state, slot, 0)

    def snapshot(self, state: State, row: int) -> dict[str, Tensor]:
        assert isinstance(state, Mamba2State) and state.provisional[row] == 0
        final_HPN = state.ssm[state.base[row], row]
        position = torch.tensor(state.position[row])
        return {"window": state.window[row].clone(), "ssm": final_HPN.clone(), "position": position}

    def restore(self, state: State, row: int, saved: dict[str, Tensor]) -> None:
        assert isinstance(state, Mamba2State)
        state.window[row] = saved["window"]
        state.ssm[state.base[row], row] = saved["ssm"]
        state.position[row], state.provisional[row] = int(saved["position"]), 0

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
        """Append tokens to the slot's ring; the place of the first."""
        start = state.provisional[slot]
        stop = state.provisional[slot] = start + len(xBC_TC)
        assert stop <= RUN_LIMIT, "a slot holds at most RUN_LIMIT provisional tokens"
        state.ring_xBC[slot, start:stop] = xBC_TC
        raw_TH = at_least_float32(dt_TH) + self.dt_bias
        state.ring_dt[slot, start:stop] = rowwise(F.softplus, raw_TH).clamp(*self.dt_limit)
        return start

    def _walk(self, state: Mamba2State, slot: int, start: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Step through the ring's tokens from `start` on: after each, the state h, the token's x and its C.

        Continues from work, or from base at the ring's beginning; writes work when the last token is done.
        """
        stop, base = state.provisional[slot], state.base[slot]
        if start == stop:
            return
        x_THP, B_TGN, C_TGN = self._split(self._convolved(state, slot, start))
        dt_TH = state.ring_dt[slot, start:stop]
        decay_TH = rowwise(torch.exp, dt_TH * self._A())
        xdt_THP = x_THP * dt_TH[..., None]
        h_HPN = state.ssm[base if start == 0 else 1 - base, slot]
        for t in range(stop - start):
            h_HPN = ssm_update(h_HPN, xdt_THP[t], decay_TH[t], B_TGN[t])
            yield h_HPN, x_THP[t], C_TGN[t]
        state.ssm[1 - base, slot] = h_HPN

    def _settle(self, state: Mamba2State, slot: int, start: int) -> None:
        """Bring work up to the ring's last token; nothing is read."""
        for _ in self._walk(state, slot, start):
            pass

    def _convolved(self, state: Mamba2State, slot: int, start: int) -> Tensor:
        """x, B and C of the ring's tokens from `start` on, `[T, C]`."""
        inputs_MC = torch.cat((state.window[slot], state.ring_xBC[slot, : state.provisional[slot]]))
        bias = None if self.conv1d.bias is None else at_least_float32(self.conv1d.bias)
        weight_CW = at_least_float32(self.conv1d.weight[:, 0])
        return rowwise(F.silu, conv_tokens(at_least_float32(inputs_MC[start:]), weight_CW, bias))
