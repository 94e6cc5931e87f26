"""How sure a share of tokens is. Tokens of one text are alike, so texts are drawn, never tokens."""

from __future__ import annotations

from collections.abc import Sequence

from offramp.evaluation.bootstrap import Interval, Sample, interval


def share(agreed: Sequence[int], tokens: Sequence[int], seed: int = 0) -> Interval:
    """agreed, tokens: of each prompt, two at least. The share is of all tokens, so long texts count more."""
    pairs = list(zip(agreed, tokens, strict=True))
    assert len(pairs) > 1 and all(0 <= part <= whole and whole for part, whole in pairs)
    found = interval(Sample.of([pairs]), seed=seed)
    return Interval(found.value, max(0.0, found.low), min(1.0, found.high))
