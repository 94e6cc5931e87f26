"""The gate that attends to what earlier tokens looked like at this exit."""

from __future__ import annotations

from offramp.exits.base import Gate
from offramp.exits.mixers.attention import mixer
from offramp.mixers.base import Mixer


class Transformer(Gate):
    def make_mixer(self, width: int) -> Mixer:
        return mixer(width)
