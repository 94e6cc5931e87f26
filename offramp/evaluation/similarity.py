"""How near one text is to another: ROUGE-L, exact match and F1 over words.

Normalisation is that of SQuAD and CoQA: lower case, no punctuation, no articles, single spaces.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

WORD = re.compile(r"[^\W_]+")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def similarity(a: str, b: str) -> float:
    """ROUGE-L's F1 of two texts (Lin 2004), in [0, 1] and symmetric; equal texts have 1.

    On ASCII the number of the package rouge-score without stemming; letters of other scripts count as letters here.
    """
    if a == b:
        return 1.0
    a_words, b_words = WORD.findall(a.lower()), WORD.findall(b.lower())
    if not a_words or not b_words:
        return 0.0
    return 2 * longest_common(a_words, b_words) / (len(a_words) + len(b_words))


def longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, a bit for each item of `a` (Hyyrö 2004)."""
    where: dict[str, int] = {}
    for i, item in enumerate(a):
        where[item] = where.get(item, 0) | 1 << i
    everything = free = (1 << len(a)) - 1
    for item in b:
        matched = free & where.get(item, 0)
        free = (free + matched | free - matched) & everything
    return len(a) - free.bit_count()


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 where the prediction is one of the answers once normalised, else 0.0."""
    return _best(lambda answer: float(normalised(prediction) == normalised(answer)), answers)


def f1(prediction: str, answers: Sequence[str]) -> float:
    """F1 over normalised words, with the answer that fits best; without words on a side, 1.0 where both have none."""
    return _best(lambda answer: _f1(normalised(prediction).split(), normalised(answer).split()), answers)


def normalised(text: str) -> str:
    """Lower case, without punctuation, without articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def same_first_line(prediction: str, answer: str) -> bool:
    """Whether the first line of the prediction is the answer, whatever the spaces: the score of the twins' tasks."""
    return _first_line(prediction) == _first_line(answer)


def _best(score: Callable[[str], float], answers: Sequence[str]) -> float:
    assert answers, "a question without answers has no score"
    return max(map(score, answers))


def _f1(prediction: list[str], answer: list[str]) -> float:
    if not prediction or not answer:
        return float(prediction == answer)
    common = (Counter(prediction) & Counter(answer)).total()
    return 2 * common / (len(prediction) + len(answer))


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return " ".join(lines[0].split()) if lines else ""
