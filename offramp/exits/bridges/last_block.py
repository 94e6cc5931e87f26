"""The published code's bridge: the model's own last block, run by the engine on its committed state."""

from __future__ import annotations

from torch import Tensor

from offramp.exits.base import Bridge


class LastBlock(Bridge):
    """Without state: what the engine hands over has been through the last block already."""

    borrows_last_block = True

    def hidden(self, h: Tensor, y: Tensor) -> Tensor:
        return h
