"""Attention of few heads."""

from __future__ import annotations

from offramp.errors import UsageError
from offramp.mixers.attention import HEAD_DIM, Attention
from offramp.mixers.base import Mixer


def mixer(width: int) -> Mixer:
    """Heads share the width evenly, each of HEAD_DIM at least and of an even one: it is turned in pairs.

    Raises UsageError for an odd width.
    """
    if width % 2:
        raise UsageError(
            f"attention needs an even width, not {width}: choose a width of {width + 1}, say, or another mixer"
        )
    most = max(1, width // HEAD_DIM)
    return Attention(width, max(heads for heads in range(1, most + 1) if width % (2 * heads) == 0))
