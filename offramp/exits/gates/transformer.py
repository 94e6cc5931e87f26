"""The gate that attends to what earlier tokens looked like at this exit."""

from __future__ import annotations

from offramp.exits.base import Gate
from offramp.mixers.attention import Attention
from offramp.mixers.base import Mixer

HEAD_DIM = 32


class Transformer(Gate):
    def make_mixer(self, width: int) -> Mixer:
        return Attention(width, heads=max(1, width // HEAD_DIM), head_dim=HEAD_DIM)
