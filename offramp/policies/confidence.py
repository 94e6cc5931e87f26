"""A token leaves where the bridge's largest probability passes the threshold (CALM section 3.3's softmax rule).

A baseline: it reads the whole vocabulary at every exit, and pays for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from offramp.policies.base import ExitPolicy, Memory, Signal


class Confidence(ExitPolicy):
    needs_logits = True

    def __call__(self, signal: Signal, memory: Sequence[Memory]) -> tuple[Tensor, list[Memory]]:
        assert signal.logits_RV is not None
        top_R = signal.logits_RV.float().softmax(-1).amax(-1)
        return top_R > self.thresholds[signal.exit], list(memory)
