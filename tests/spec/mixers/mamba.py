"""Mamba (1): dt, B and C come from the convolution's output."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers import Linear
from .recurrent import Drive, Recurrent


@dataclass(eq=False)
class Mamba(Recurrent):
    in_proj: Linear  # [2E, D]: x, then z
    conv_weight: Tensor  # [E, W]
    conv_bias: Tensor | None
    x_proj: Linear  # [R + 2N, E]: dt, B, C
    dt_proj: Linear  # [E, R] with bias
    A_log: Tensor  # [E, N]
    D: Tensor  # [E]
    out_proj: Linear  # [D, E]
    rms_eps: float | None = None  # FalconMamba norms dt, B and C, without weights

    def ssm_shape(self) -> tuple[int, ...]:
        return tuple(self.A_log.shape)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, None]:
        conv_input, z = self.in_proj(x).chunk(2, -1)
        return z, conv_input, None

    def drive(self, conv_output: Tensor, dt_rows: None) -> Drive:
        N, rank = self.A_log.shape[1], self.dt_proj.weight.shape[1]
        dt, B, C = map(self._normed, self.x_proj(conv_output).split([rank, N, N], -1))
        return Drive(conv_output, F.softplus(self.dt_proj(dt)), B, C)

    def absorb(self, ssm: Tensor, drive: Drive) -> Tensor:
        decay = torch.exp(drive.dt[:, None] * -self.A_log.exp())
        return decay * ssm + (drive.dt * drive.x)[:, None] * drive.B

    def read(self, ssm: Tensor, drive: Drive) -> Tensor:
        return (ssm * drive.C).sum(-1) + self.D * drive.x

    def finish(self, y: Tensor, z: Tensor) -> Tensor:
        return self.out_proj(y * F.silu(z))

    def _normed(self, x: Tensor) -> Tensor:
        return x if self.rms_eps is None else x * (x.square().mean(-1, keepdim=True) + self.rms_eps).rsqrt()
