"""The gate that attends to what earlier tokens looked like at this exit."""

from __future__ import annotations

from offramp.errors import UsageError
from offramp.exits.base import Gate
from offramp.mixers.attention import HEAD_DIM, Attention
from offramp.mixers.base import Mixer


class Transformer(Gate):
    def make_mixer(self, width: int) -> Mixer:
        return Attention(width, _heads(width))


def _heads(width: int) -> int:
    """As many as share the width evenly, each of HEAD_DIM at least and of an even one: it is turned in pairs."""
    if width % 2:
        raise UsageError(
            f"the transformer gate needs an even width, not {width}: "
            f"choose a bottleneck of {width + 1}, say, or another gate"
        )
    most = max(1, width // HEAD_DIM)
    return max(heads for heads in range(1, most + 1) if width % (2 * heads) == 0)
