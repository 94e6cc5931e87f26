"""What Mamba-1 and Mamba-2 share as static steps: tapes, rings and SSM states, written by index.

The rows take their tokens one after another with the decode update, as everywhere. Padding is taken in with a step
size of zero, which changes no state.

Shapes: R rows, T tokens of each, M = R T, W taps, C channels that are convolved, F inputs of a token.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.graphs.grid import Grid
from offramp.graphs.static import Static
from offramp.mixers._recurrent import RecurrentState
from offramp.mixers.base import RUN_LIMIT
from offramp.mixers.mamba import Mamba
from offramp.mixers.mamba2 import Mamba2
from offramp.ops.conv import conv_tokens, windows
from offramp.ops.norm import at_least_float32


class Drive(NamedTuple):
    """What tokens do to the SSM states, `[M, ...]` each: x, its step size, and B."""

    x: Tensor
    dt: Tensor
    B: Tensor


class StaticRecurrent(Static):
    """z: the outputs of in_proj that gate. inputs: all others."""

    mixer: Mamba | Mamba2
    state: RecurrentState
    in_proj: nn.Linear
    z: slice
    inputs: slice

    @abstractmethod
    def _push(self, inputs_MF: Tensor, grid: Grid) -> tuple[Drive, Tensor]:
        """Tokens go onto the tapes and into the rings: what they do to the states, and C, which reads these."""

    @abstractmethod
    def _pushed(self, grid: Grid) -> Drive:
        """The same of tokens that are there already."""

    @abstractmethod
    def _update(
        self, h_R: Tensor, A: Tensor, x: Tensor, dt: Tensor, B: Tensor, C: Tensor | None
    ) -> Tensor | None:
        """The SSM states take one token of each row, in place; what C reads of them, if it is given."""

    @abstractmethod
    def _out(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """The mixer's output `[M, D]`. y: what C read. x: what passes the states by."""

    def forward(self, x_MD: Tensor, grid: Grid, rows: Sequence[int], n: Sequence[int]) -> Tensor:
        projected = self.in_proj(x_MD)
        drive, C = self._push(projected[:, self.inputs], grid)
        y = self._stepped(drive, C, grid)
        return self._out(torch.stack(y, 1).flatten(0, 1), drive.x, projected[:, self.z])

    def advance(self, x_MD: Tensor, grid: Grid, rows: Sequence[int], n: Sequence[int]) -> None:
        weight, bias = self.in_proj.weight[self.inputs], self.in_proj.bias
        drive, _ = self._push(F.linear(x_MD, weight, None if bias is None else bias[self.inputs]), grid)
        self._stepped(drive, None, grid)

    def replay(self, grid: Grid) -> None:
        """Work becomes base and the grid's tokens, which are on the tapes."""
        self._stepped(self._pushed(grid), None, grid)

    def shift(self, grid: Grid) -> None:
        """The windows as they are once each row's first n tokens are final."""
        state, before = self.state, self.mixer.conv1d.kernel_size[0] - 1
        if before:
            taken_R = grid.slot_R * state.tape.shape[1] + grid.n_R
            moved_RWC = windows(state.tape, before).index_select(0, taken_R)
            state.window.index_copy_(0, grid.slot_R, moved_RWC)

    def _stepped(self, drive: Drive, C: Tensor | None, grid: Grid) -> list[Tensor]:
        """What C reads after each step, `[R, ...]`; nothing without it. The states are written at the end."""
        memory, A = self.state.ssm.flatten(0, 1), self.mixer._A()
        h_R = memory.index_select(0, grid.source_R)
        x, dt, B = (grid.in_rows(part) for part in drive)
        dt = dt.masked_fill(~grid.live_RT.view(*grid.live_RT.shape, *[1] * (dt.dim() - 2)), 0)
        C = None if C is None else grid.in_rows(C)
        y = [
            self._update(h_R, A, x[:, t], dt[:, t], B[:, t], None if C is None else C[:, t])
            for t in range(grid.bucket.tokens)
        ]
        memory.index_copy_(0, grid.target_R, h_R)
        return [read for read in y if read is not None]

    def _ring(self, grid: Grid) -> Tensor:
        """Where the tokens lie in all rings joined."""
        return grid.slot_M * RUN_LIMIT + grid.place_M

    def _tape(self, grid: Grid) -> Tensor:
        """The first input that the convolution reads for each token, on all tapes joined."""
        return grid.slot_M * self.state.tape.shape[1] + grid.place_M

    def _write_tapes(self, inputs_MC: Tensor, grid: Grid) -> None:
        own = self.state.tape.flatten(0, 1)[self.mixer.conv1d.kernel_size[0] - 1 :]
        own.index_copy_(0, self._tape(grid), inputs_MC)

    def _convolved(self, grid: Grid) -> Tensor:
        """What the convolution gives for tokens on the tapes, `[M, C]`."""
        conv = self.mixer.conv1d
        bias = None if conv.bias is None else at_least_float32(conv.bias)
        inputs_MWC = windows(self.state.tape, conv.kernel_size[0]).index_select(0, self._tape(grid))
        return F.silu(conv_tokens(at_least_float32(inputs_MWC), at_least_float32(conv.weight[:, 0]), bias))
