"""A token leaves where the exit's distribution has little entropy left (BranchyNet, arXiv 1709.01686).

The score is 1 - H / log V: 0 for the uniform distribution, 1 for a certain one, so that larger is surer, as
everywhere here. A baseline: it reads the whole vocabulary at every exit, and pays for it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from offramp.policies.base import ScorePolicy, Signal


class Entropy(ScorePolicy):
    """1 - entropy / log(vocabulary)."""

    needs_logits = True
    default = 0.8

    def score(self, signal: Signal) -> Tensor:
        assert signal.logits_RV is not None
        shares_RV = signal.logits_RV.float().softmax(-1)
        # entr is 0 at probability 0, where p * log p would be NaN.
        return 1 - torch.special.entr(shares_RV).sum(-1) / math.log(shares_RV.shape[-1])
