"""A low-rank affine map from the exit's basis to the last block's: the tuned lens (arXiv 2303.08112), low-rank.

h + up(down(norm(h))), on the normed state, so that one learning rate serves exits whose hidden states differ in
size; the tuned lens reads h itself, which `norm` false does.
"""

from __future__ import annotations

from torch import Tensor

from offramp.exits.base import Bridge, ExitConfig
from offramp.exits.trunk import nothing_yet
from offramp.mixers.identity import Identity


class Lens(Bridge):
    """The identity until it is trained."""

    reads = ("rank",)

    def __init__(self, config: ExitConfig) -> None:
        super().__init__(config)
        rank = config.bridge_config.rank
        self.make(config, rank, lambda _: Identity())
        self.up = nothing_yet(rank, config.hidden_size)

    def hidden(self, h: Tensor, y: Tensor) -> Tensor:
        return h + self.up(y)
