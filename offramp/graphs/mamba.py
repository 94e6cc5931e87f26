"""Mamba-1 as a static step.

Shapes: R rows, M tokens of a grid, E inner width, N state, K rank of the step size.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from offramp.graphs.fused import fused_update
from offramp.graphs.grid import Grid
from offramp.graphs.recurrent import Drive, StaticRecurrent
from offramp.mixers.mamba import Mamba, MambaState
from offramp.ops.norm import at_least_float32
from offramp.ops.scan import scan_read, scan_update


class StaticMamba(StaticRecurrent):
    mixer: Mamba
    state: MambaState

    def __init__(self, mixer: Mamba, state: MambaState) -> None:
        super().__init__()
        inner = mixer.conv1d.in_channels
        self.mixer, self.state, self.in_proj = mixer, state, mixer.in_proj
        self.inputs, self.z = slice(None, inner), slice(inner, None)
        self.fused = fused_update(state.ssm.device)

    def _push(self, inputs_MF: Tensor, grid: Grid) -> tuple[Drive, Tensor]:
        mixer = self.mixer
        self._write_tapes(inputs_MF, grid)
        u_ME, weight = self._convolved(grid), mixer.x_proj.weight
        selected = F.linear(u_ME.to(weight.dtype), weight)
        low_MK, B_MN, C_MN = selected.split((mixer.rank, mixer.state, mixer.state), -1)
        dt_ME = F.softplus(mixer._step(low_MK))
        B_MN, C_MN = (at_least_float32(mixer._normed(part)) for part in (B_MN, C_MN))
        drive = Drive(u_ME, dt_ME, B_MN)
        for ring, part in zip(self.state.rings, drive, strict=True):
            ring.flatten(0, 1).index_copy_(0, self._ring(grid), part)
        return drive, C_MN

    def _pushed(self, grid: Grid) -> Drive:
        ring_M = self._ring(grid)
        return Drive(*(ring.flatten(0, 1).index_select(0, ring_M) for ring in self.state.rings))

    def _update(
        self, h_R: Tensor, A: Tensor, x: Tensor, dt: Tensor, B: Tensor, C: Tensor | None
    ) -> Tensor | None:
        if self.fused is not None:
            return self.fused(h_R, x, dt, A, B, B if C is None else C)
        scan_update(h_R, h_R, A, dt, dt * x, B)
        return None if C is None else scan_read(h_R, C)

    def _out(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        return self.mixer._out(y + at_least_float32(self.mixer.D) * x, F.silu(at_least_float32(z)))
