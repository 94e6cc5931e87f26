"""A token leaves where the likeliest token leads the second by enough (CALM's softmax response, arXiv 2207.07061).

A baseline: it reads the whole vocabulary at every exit, and pays for it.
"""

from __future__ import annotations

from torch import Tensor

from offramp.policies.base import ScorePolicy, Signal


class Margin(ScorePolicy):
    """The likeliest token's probability less the second's."""

    needs_logits = True
    default = 0.7

    def score(self, signal: Signal) -> Tensor:
        assert signal.logits_RV is not None
        first_R, second_R = signal.logits_RV.float().softmax(-1).topk(2).values.unbind(-1)
        return first_R - second_R
