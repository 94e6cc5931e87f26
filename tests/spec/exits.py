"""Gates and bridges (design 2). They advance for every token pushed; only the newest one's signal counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .layers import Linear, RMSNorm, per_token
from .mixers import Mixer
from .model import Block


@dataclass(eq=False)
class Gate:
    """sigmoid(out(y + mixer(y))) with y = down(norm(h)). A linear gate has neither `down` nor `mixer`.

    hidden: instead of a mixer, y is the hidden layer of a perceptron.
    """

    out: Linear  # [1, r]
    norm: RMSNorm | None = None
    down: Linear | None = None  # [r, D]
    mixer: Mixer | None = None
    hidden: bool = False

    def run(self, x_TD: Tensor, state: Any, positions: Sequence[int], cell: bool = False) -> float:
        """Advance over T tokens; the newest one's value in [0, 1]."""
        y_Tr = self._narrow(x_TD) if cell else per_token(self._narrow, x_TD)
        if self.mixer is not None:
            mix = self.mixer.cell if cell else self.mixer.chunk
            y_Tr = y_Tr + mix(y_Tr, state, positions)
        return torch.sigmoid(self.out(y_Tr[-1])).item()

    def _narrow(self, x: Tensor) -> Tensor:
        x = self.norm(x) if self.norm else x
        x = self.down(x) if self.down else x
        return x.clamp(min=0) if self.hidden else x


class Bridge:
    """Hidden state at the exit -> what the shared norm and head read. This one hands it on (`none`)."""

    mixer: Mixer | None = None
    borrows_last_block = False  # the row runs the model's last block itself, see Row.bridge_logits

    def run(self, x_TD: Tensor, state: Any, positions: Sequence[int], cell: bool = False) -> Tensor:
        """Advance over T tokens; the newest one's bridged hidden state [D]."""
        return x_TD[-1]


class LastBlockBridge(Bridge):
    """The paper's code: the model's last block, on its committed state."""

    borrows_last_block = True


@dataclass(eq=False)
class LensBridge(Bridge):
    """A low-rank affine map, h + U(V h) + b, or of the normed h."""

    down: Linear  # V, [r, D]
    up: Linear  # U and b, [D, r]
    norm: RMSNorm | None = None

    def run(self, x_TD: Tensor, state: Any, positions: Sequence[int], cell: bool = False) -> Tensor:
        h_D = x_TD[-1]
        return h_D + self.up(self.down(self.norm(h_D) if self.norm else h_D))


@dataclass(eq=False)
class BlockBridge(Bridge):
    """One block with a state of its own."""

    block: Block

    @property
    def mixer(self) -> Mixer:  # type: ignore[override]
        return self.block.mixer

    def run(self, x_TD: Tensor, state: Any, positions: Sequence[int], cell: bool = False) -> Tensor:
        return self.block.run(x_TD, state, positions, cell)[-1]


@dataclass(eq=False)
class NarrowBlockBridge(Bridge):
    """A block at an inner width: h + up(y + mixer(y)) with y = down(norm(h)), as a gate has it."""

    norm: RMSNorm
    down: Linear  # [r, D]
    up: Linear  # [D, r]
    mixer: Mixer  # type: ignore[assignment]

    def run(self, x_TD: Tensor, state: Any, positions: Sequence[int], cell: bool = False) -> Tensor:
        y_Tr = self._narrow(x_TD) if cell else per_token(self._narrow, x_TD)
        mix = self.mixer.cell if cell else self.mixer.chunk
        return x_TD[-1] + self.up((y_Tr + mix(y_Tr, state, positions))[-1])

    def _narrow(self, x: Tensor) -> Tensor:
        return self.down(self.norm(x))


@dataclass(eq=False)
class Exit:
    """A gate and a bridge after the first `after` blocks."""

    after: int
    gate: Gate
    bridge: Bridge
