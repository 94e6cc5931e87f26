"""Texts that go wrong as texts: they loop, or do not come to an end. Early exits are known for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

NGRAM = 16
REPEATS = 3
LONGEST_PERIOD = 16
SHORTEST_LOOP = 12


def looping(tokens: Sequence[int]) -> bool:
    """Whether a reply repeats itself, or ends in a loop: such texts are reported apart."""
    return repeating(tokens) or ends_in_loop(tokens)


def repeating(tokens: Sequence[int]) -> bool:
    """Whether some 16 tokens stand in the reply three times, wherever they do."""
    ngrams = Counter(tuple(tokens[i : i + NGRAM]) for i in range(len(tokens) - NGRAM + 1))
    return max(ngrams.values(), default=0) >= REPEATS


def ends_in_loop(tokens: Sequence[int]) -> bool:
    """Whether a reply ends with the same n-gram, n up to 16, three times or more, over at least 12 tokens."""
    return any(_repeats(tokens, period) for period in range(1, LONGEST_PERIOD + 1))


def _repeats(tokens: Sequence[int], period: int) -> bool:
    length = max(REPEATS * period, SHORTEST_LOOP)
    tail = tokens[-length:]
    return len(tail) == length and tail[period:] == tail[:-period]


def unfinished(finish: str, ends: bool) -> bool:
    """Whether a reply was cut off that should have come to an end. finish: as in `Generation`."""
    return ends and finish in ("max_tokens", "context", "nan")
