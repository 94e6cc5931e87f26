"""A token leaves where the exit's distribution has little entropy left (BranchyNet, arXiv 1709.01686).

The score is 1 - H / log V: 0 for the uniform distribution, 1 for a certain one, so that larger is surer, as
everywhere here. A baseline: it reads the whole vocabulary at every exit, and pays for it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.ops.rowwise import rowwise
from offramp.policies.base import ScorePolicy, Signal

PART = 1024
"""Terms that are summed at once. A single long sum would be split between threads, a row's among others' would not."""


class Entropy(ScorePolicy):
    """1 - entropy / log(vocabulary)."""

    needs_logits = True
    default = 0.8

    def score(self, signal: Signal) -> Tensor:
        assert signal.logits_RV is not None
        shares_RV = signal.logits_RV.float().softmax(-1)
        # entr is 0 at probability 0, where p * log p would be NaN.
        terms_RV = rowwise(torch.special.entr, shares_RV)
        parts_RP = F.pad(terms_RV, (0, -terms_RV.shape[1] % PART)).unflatten(1, (-1, PART)).sum(-1)
        return 1 - parts_RP.sum(-1) / math.log(shares_RV.shape[1])
