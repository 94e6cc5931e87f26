"""How sure a share is: the percentile bootstrap over prompts.

Tokens of one text are alike, so texts are drawn, never tokens.

Shapes: P prompts, B draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000


@dataclass(frozen=True)
class Share:
    """A share of all tokens, and the interval that holds it with 95 % confidence."""

    value: float
    low: float
    high: float


def share(agreed: Sequence[int], tokens: Sequence[int], seed: int = 0) -> Share:
    """agreed, tokens: of each prompt. The share is of all tokens, so long texts count more."""
    agreed_P, tokens_P = np.asarray(agreed, float), np.asarray(tokens, float)
    assert len(agreed_P) == len(tokens_P) and (tokens_P > 0).all() and (agreed_P <= tokens_P).all()
    picked_BP = np.random.default_rng(seed).integers(0, len(tokens_P), (DRAWS, len(tokens_P)))
    shares_B = agreed_P[picked_BP].sum(1) / tokens_P[picked_BP].sum(1)
    low, high = np.quantile(shares_B, (0.025, 0.975))
    return Share(float(agreed_P.sum() / tokens_P.sum()), float(low), float(high))
