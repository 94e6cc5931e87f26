"""The gate with a recurrent memory of this exit: a small Mamba-2 mixer, on either kind of backbone."""

from __future__ import annotations

from offramp.exits.base import Gate
from offramp.mixers.base import Mixer
from offramp.mixers.mamba2 import Mamba2

HEAD_DIM = 32


class Mamba(Gate):
    def make_mixer(self, width: int) -> Mixer:
        inner = -(-2 * width // HEAD_DIM) * HEAD_DIM  # twice the width, in whole heads
        return Mamba2(width, inner, head_dim=HEAD_DIM, state=32)
