"""A token leaves where a segment hardly turns its hidden state (CALM's hidden-state saturation, arXiv 2207.07061).

The score is the cosine between what enters and what leaves the segment: neither gate nor logits. CALM compares
one layer with the next; a segment is several blocks, so the same number is harder to reach here.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity

from offramp.policies.base import ScorePolicy, Signal


class Saturation(ScorePolicy):
    """The cosine of what enters and leaves the segment."""

    default = 0.9

    def score(self, signal: Signal) -> Tensor:
        cosine_R = cosine_similarity(signal.entering_RD.float(), signal.leaving_RD.float(), dim=-1)
        return cosine_R.clamp(max=1)  # rounding may go beyond, and 1 never leaves
