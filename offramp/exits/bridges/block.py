"""One mixer block at an inner width: h + up(y + mixer(y)), y = down(norm(h)).

With a Mamba mixer it is a Mamba drafter at the exit. Its trunk may be the gate's.
"""

from __future__ import annotations

from torch import Tensor

from offramp.errors import UnknownName
from offramp.exits.base import Bridge, ExitConfig
from offramp.exits.trunk import nothing_yet
from offramp.registry import find_function, names, unknown

OF_GATE = "gate"
MIXERS = "offramp.exits.mixers"


class Block(Bridge):
    """The identity until it is trained."""

    reads = ("width", "mixer")

    def __init__(self, config: ExitConfig) -> None:
        super().__init__(config)
        mixer, width = config.bridge_config.mixer, config.bridge_config.width
        self.reads_gate = mixer == OF_GATE
        if self.reads_gate:
            width = config.gate_width
        elif mixer in names(MIXERS):
            self.make(config, width, find_function(MIXERS, mixer, "mixer"))
        else:
            raise UnknownName(unknown("bridge mixer", mixer, [*names(MIXERS), OF_GATE]))
        self.up = nothing_yet(width, config.hidden_size)

    def hidden(self, h: Tensor, y: Tensor) -> Tensor:
        return h + self.up(y)
