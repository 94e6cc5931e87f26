"""A token leaves where the bridge's largest probability passes the threshold (as in EE-LLM, arXiv 2312.04916).

A baseline: it reads the whole vocabulary at every exit, and pays for it.
"""

from __future__ import annotations

from torch import Tensor

from offramp.policies.base import ScorePolicy, Signal


class Confidence(ScorePolicy):
    """The probability of the likeliest token."""

    needs_logits = True
    default = 0.8

    def score(self, signal: Signal) -> Tensor:
        assert signal.logits_RV is not None
        return signal.logits_RV.float().softmax(-1).amax(-1)
