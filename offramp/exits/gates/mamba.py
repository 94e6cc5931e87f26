"""The gate with a recurrent memory of this exit: a small Mamba-2 mixer, on either kind of backbone."""

from __future__ import annotations

from offramp.exits.base import Gate
from offramp.exits.mixers.mamba import mixer
from offramp.mixers.base import Mixer


class Mamba(Gate):
    def make_mixer(self, width: int) -> Mixer:
        return mixer(width)
