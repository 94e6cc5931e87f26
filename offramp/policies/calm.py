"""Confidence against a threshold that falls along the reply (CALM's decaying threshold, arXiv 2207.07061, eq. 5).

    bar(t) = clip(0.9 threshold + 0.1 exp(-TAU t / max_tokens), 0, 1)        t: the token's index in the reply

An early mistake spoils all that follows, so early tokens must be surer. Like confidence it reads the whole
vocabulary at every exit, and pays for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from offramp.policies.base import Memory, Signal
from offramp.policies.confidence import Confidence

TAU = 4.0
"""How fast it falls: the default of CALM's published code (t5x, `position_temp`)."""


class Calm(Confidence):
    """As confidence; x falls from 0.9 x + 0.1 to 0.9 x."""

    def __call__(self, signal: Signal, memory: Sequence[Memory]) -> tuple[Tensor, list[Memory]]:
        threshold, score_R = self.thresholds[signal.exit], self.score(signal)
        places = zip(signal.index, signal.max_tokens, strict=True)
        return score_R > score_R.new_tensor([bar(threshold, *place) for place in places]), list(memory)


def bar(threshold: float, index: int, max_tokens: int) -> float:
    """The threshold for token number `index` of a reply; 1 stays 1, which never leaves."""
    falling = 0.9 * threshold + 0.1 * math.exp(-TAU * index / max_tokens)
    return 1.0 if threshold == 1 else min(1.0, max(0.0, falling))
