"""Mamba-2: x, B and C share one convolution; a scalar decay per head; the gated norm is per group."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers import Linear
from .recurrent import Drive, Recurrent


@dataclass(eq=False)
class Mamba2(Recurrent):
    in_proj: Linear  # [E + (E + 2GN) + H, D]: z, xBC, dt
    conv_weight: Tensor  # [E + 2GN, W]
    conv_bias: Tensor | None
    dt_bias: Tensor  # [H]
    A_log: Tensor  # [H]
    D: Tensor  # [H]
    norm_weight: Tensor  # [E]
    out_proj: Linear  # [D, E]
    groups: int = 1
    eps: float = 1e-5
    dt_limit: tuple[float, float] = (0.0, float("inf"))

    def ssm_shape(self) -> tuple[int, ...]:
        """[H, K, N]."""
        H, E = len(self.A_log), len(self.norm_weight)
        return H, E // H, (len(self.conv_weight) - E) // (2 * self.groups)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z, conv_input, dt_rows = self.in_proj(x).split(
            [len(self.norm_weight), len(self.conv_weight), len(self.A_log)], -1
        )
        return z, conv_input, F.softplus(dt_rows + self.dt_bias).clamp(*self.dt_limit)

    def drive(self, conv_output: Tensor, dt_rows: Tensor | None) -> Drive:
        assert dt_rows is not None
        H, K, N = self.ssm_shape()
        x, B, C = conv_output.split([H * K, self.groups * N, self.groups * N], -1)
        return Drive(x.unflatten(-1, (H, K)), dt_rows, self._per_head(B), self._per_head(C))

    def absorb(self, ssm: Tensor, drive: Drive) -> Tensor:
        decay_H = torch.exp(drive.dt * -self.A_log.exp())
        return decay_H[:, None, None] * ssm + (drive.dt[:, None] * drive.x)[..., None] * drive.B[:, None]

    def read(self, ssm: Tensor, drive: Drive) -> Tensor:
        return ((ssm * drive.C[:, None]).sum(-1) + self.D[:, None] * drive.x).flatten()

    def scan(self, ssm: Tensor, drives: Drive) -> tuple[Tensor, Tensor]:
        """The chunk form (SSD): the same mathematics in another order, so a cell's cut shows."""
        x_THK, dt_TH, B_THN, C_THN = drives
        log_TH = torch.cumsum(dt_TH * -self.A_log.exp(), 0)
        causal = torch.ones(len(x_THK), len(x_THK), dtype=torch.bool).tril()[..., None]
        decay_tsH = torch.where(causal, log_TH[:, None] - log_TH[None], -torch.inf).exp()
        scores_tsH = torch.einsum("thn,shn->tsh", C_THN, B_THN) * decay_tsH * dt_TH[None]
        y_THK = torch.einsum("tsh,shk->thk", scores_tsH, x_THK) + self.D[:, None] * x_THK
        y_THK = y_THK + torch.einsum("th,hkn,thn->thk", log_TH.exp(), ssm, C_THN)
        added = torch.einsum("sh,shk,shn->hkn", decay_tsH[-1] * dt_TH, x_THK, B_THN)
        return y_THK.flatten(1), log_TH[-1].exp()[:, None, None] * ssm + added

    def finish(self, y: Tensor, z: Tensor) -> Tensor:
        """The gate comes before the norm, and each group is normalised by itself."""
        gated = (y * F.silu(z)).unflatten(-1, (self.groups, -1))
        normed = gated * (gated.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return self.out_proj(self.norm_weight * normed.flatten(-2))

    def _per_head(self, x: Tensor) -> Tensor:
        """[..., G * N] -> [..., H, N]."""
        grouped = x.unflatten(-1, (self.groups, -1))
        return grouped.repeat_interleave(len(self.A_log) // self.groups, -2)
