"""What Mamba and Mamba-2 share: a committed and a working SSM state, a conv window, a ring (design 2)."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from .base import Mixer, Storage


class Drive(NamedTuple):
    """What one token does to the SSM state (x, dt, B), and how it is read (C)."""

    x: Tensor
    dt: Tensor
    B: Tensor
    C: Tensor


class Pending(NamedTuple):
    """A provisional token: enough to replay it, in its order, on the committed state."""

    conv_input: Tensor
    drive: Drive


@dataclass
class RecurrentState:
    ssm: Tensor  # [2, ...]: `ssm[base]` is committed, the other one is work
    window: Tensor  # [W - 1, C], committed
    base: int = 0
    seen: int = 0  # committed tokens; at 0 the tensors hold nothing yet and count as zero
    ring: list[Pending] = field(default_factory=list)


class Recurrent(Mixer):
    """A chunk continues from `work`, or from `base` when nothing is provisional, in token order."""

    conv_weight: Tensor  # [C, W]
    conv_bias: Tensor | None

    @abstractmethod
    def ssm_shape(self) -> tuple[int, ...]: ...

    @abstractmethod
    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """in_proj: (z, the rows that enter the convolution, the dt rows if they come from here)."""

    @abstractmethod
    def drive(self, conv_output: Tensor, dt_rows: Tensor | None) -> Drive: ...

    @abstractmethod
    def absorb(self, ssm: Tensor, drive: Drive) -> Tensor:
        """The next SSM state. Never in place: `base` must survive what comes after it."""

    @abstractmethod
    def read(self, ssm: Tensor, drive: Drive) -> Tensor: ...

    @abstractmethod
    def finish(self, y: Tensor, z: Tensor) -> Tensor:
        """Gating, norm and out_proj."""

    def new_state(self, storage: Storage, max_len: int) -> RecurrentState:
        channels, width = self.conv_weight.shape
        return RecurrentState(storage(2, *self.ssm_shape()), storage(width - 1, channels))

    def chunk(self, x_TD: Tensor, state: RecurrentState, positions: Sequence[int]) -> Tensor:
        ssm, out = self.start(state), []
        for x in x_TD:
            z, conv_input, dt_rows = self.split(x)
            inputs = [*(pending.conv_input for pending in state.ring), conv_input]
            newest_window = self._line(state, inputs)[-self.conv_weight.shape[1] :]
            drive = self.drive(self._conv(newest_window)[0], dt_rows)
            ssm = self.absorb(ssm, drive)
            state.ring.append(Pending(conv_input, drive))
            out.append(self.finish(self.read(ssm, drive), z))
        state.ssm[1 - state.base] = ssm
        return torch.stack(out)

    def cell(self, x_TD: Tensor, state: RecurrentState, positions: Sequence[int]) -> Tensor:
        z, conv_input, dt_rows = self.split(x_TD)
        drives = self.drive(self._conv(self._line(state, conv_input)), dt_rows)
        y, ssm = self.scan(self._committed(state), drives)
        state.ssm[state.base] = ssm
        self._shift(state, list(conv_input))
        return self.finish(y, z)

    def scan(self, ssm: Tensor, drives: Drive) -> tuple[Tensor, Tensor]:
        """T tokens at once: their outputs and the last state."""
        out = []
        for token in zip(*drives, strict=True):
            ssm = self.absorb(ssm, Drive(*token))
            out.append(self.read(ssm, Drive(*token)))
        return torch.stack(out), ssm

    def start(self, state: RecurrentState) -> Tensor:
        return state.ssm[1 - state.base].clone() if state.ring else self._committed(state)

    def replay(self, state: RecurrentState, n: int) -> Tensor:
        ssm = self._committed(state)
        for pending in state.ring[:n]:
            ssm = self.absorb(ssm, pending.drive)
        return ssm

    def provisional(self, state: RecurrentState) -> int:
        return len(state.ring)

    def commit(self, state: RecurrentState, n: int) -> None:
        if n and n == len(state.ring):
            state.base = 1 - state.base  # `work` is stale from here until the next chunk
        elif n:
            state.ssm[state.base] = self.replay(state, n)
        self._shift(state, [pending.conv_input for pending in state.ring[:n]])
        state.ring.clear()

    def rollback(self, state: RecurrentState, keep: int = 0) -> None:
        state.ssm[1 - state.base] = self.replay(state, keep)
        del state.ring[keep:]

    def export(self, state: RecurrentState) -> list[Tensor]:
        return [self._committed(state), self._window(state).clone()]

    def _committed(self, state: RecurrentState) -> Tensor:
        return state.ssm[state.base].clone() if state.seen else torch.zeros_like(state.ssm[0])

    def _window(self, state: RecurrentState) -> Tensor:
        return state.window if state.seen else torch.zeros_like(state.window)

    def _line(self, state: RecurrentState, inputs: Sequence[Tensor]) -> Tensor:
        """The committed window followed by new conv inputs."""
        return torch.cat([self._window(state), *(x[None] for x in inputs)])

    def _shift(self, state: RecurrentState, inputs: list[Tensor]) -> None:
        line = self._line(state, inputs)
        if inputs:
            state.window.copy_(line[-len(state.window) :])
            state.seen += len(inputs)

    def _conv(self, line: Tensor) -> Tensor:
        """Causal depthwise convolution: one output [C] for each full window of the line."""
        windows = line.unfold(0, self.conv_weight.shape[1], 1)
        y = (windows * self.conv_weight).sum(-1)
        return torch.nn.functional.silu(y if self.conv_bias is None else y + self.conv_bias)
