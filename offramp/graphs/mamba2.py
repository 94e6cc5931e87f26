"""Mamba-2 as a static step.

Shapes: R rows, M tokens of a grid, H heads of P channels, G groups, N state, C convolved channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.graphs.fused import fused_update
from offramp.graphs.grid import Grid
from offramp.graphs.recurrent import Drive, StaticRecurrent
from offramp.mixers.mamba2 import Mamba2, Mamba2State
from offramp.ops.norm import at_least_float32
from offramp.ops.ssd import ssm_read, ssm_update


class StaticMamba2(StaticRecurrent):
    mixer: Mamba2
    state: Mamba2State

    def __init__(self, mixer: Mamba2, state: Mamba2State) -> None:
        super().__init__()
        self.mixer, self.state, self.in_proj = mixer, state, mixer.in_proj
        self.z, self.inputs = slice(None, mixer.inner), slice(mixer.inner, None)
        self.fused = fused_update(state.ssm.device)

    def _push(self, inputs_MF: Tensor, grid: Grid) -> tuple[Drive, Tensor]:
        mixer = self.mixer
        xBC_MC, raw_MH = inputs_MF.split((mixer.conv1d.in_channels, mixer.heads), -1)
        dt_MH = F.softplus(at_least_float32(raw_MH) + mixer.dt_bias).clamp(*mixer.dt_limit)
        self._write_tapes(xBC_MC, grid)
        self.state.ring_dt.flatten(0, 1).index_copy_(0, self._ring(grid), dt_MH)
        x_MHP, B_MGN, C_MGN = mixer._split(self._convolved(grid))
        return Drive(x_MHP, dt_MH, B_MGN), C_MGN

    def _pushed(self, grid: Grid) -> Drive:
        x_MHP, B_MGN, _ = self.mixer._split(self._convolved(grid))
        return Drive(x_MHP, self.state.ring_dt.flatten(0, 1).index_select(0, self._ring(grid)), B_MGN)

    def _update(
        self, h_R: Tensor, A: Tensor, x: Tensor, dt: Tensor, B: Tensor, C: Tensor | None
    ) -> Tensor | None:
        if self.fused is not None:  # what all channels of a head share has no stride: so the kernel knows
            A_HPN, bias_HP = A[:, None, None].expand_as(h_R[0]), torch.zeros_like(A)[:, None].expand_as(x[0])
            return self.fused(
                h_R, x, dt[..., None].expand_as(x), A_HPN, B, B if C is None else C, dt_bias=bias_HP
            )
        ssm_update(h_R, h_R, x * dt[..., None], torch.exp(dt * A), B)
        return None if C is None else ssm_read(h_R, C)

    def _out(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        return self.mixer._out(y + at_least_float32(self.mixer.D)[:, None] * x, z)
