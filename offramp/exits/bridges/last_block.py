"""The published code's bridge: the model's own last block, run by the engine on its committed state."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from offramp.exits.base import Bridge
from offramp.mixers.base import State


class LastBlock(Bridge):
    """Without state: what the engine hands over has been through the last block already."""

    borrows_last_block = True

    def forward(
        self,
        h_RTD: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        return h_RTD
