"""A small Mamba-2."""

from __future__ import annotations

from offramp.mixers.base import Mixer
from offramp.mixers.mamba2 import Mamba2

HEAD_DIM, STATE = 32, 32


def mixer(width: int) -> Mixer:
    """Of twice the width inside, in whole heads."""
    inner = -(-2 * width // HEAD_DIM) * HEAD_DIM
    return Mamba2(width, inner, head_dim=HEAD_DIM, state=STATE)
