"""Between what shares of drafts the full model agreed with while calibrating: what verified traffic is held against."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import stdtrit  # type: ignore[import-untyped]

SURE = 0.99
BLOCKS = 10
FEWEST = 200
"""Judged drafts below which nothing is said."""


def share_interval(counts: Sequence[tuple[int, int]]) -> tuple[float, float] | None:
    """A 99 % interval of the share accepted, from (judged, accepted) of several blocks of documents.

    Drafts of one document are no independent draws, so it is the blocks that vary: a ratio estimate with Student's t.
    """
    judged, accepted = (sum(column) for column in zip(*counts, strict=True))
    if judged < FEWEST or len(counts) < 2:
        return None
    share = accepted / judged
    spread = sum((a - share * j) ** 2 for j, a in counts) * len(counts) / (len(counts) - 1)
    reach = float(stdtrit(len(counts) - 1, (1 + SURE) / 2)) * math.sqrt(spread) / judged
    return max(0.0, share - reach), min(1.0, share + reach)
