"""Drop held-out documents that training (or an earlier held-out split) has nearly seen.

The measure is containment: the share of a document's runs of 13 words that occurs in the seen texts. It is
exact, so there is nothing to tune but the bound, and only the held-out shingles are kept in memory.
"""

import re
from collections.abc import Iterable, Iterator

SHINGLE = 13
BOUND = 0.25

_WORD = re.compile(r"\w+|[^\w\s]")


def shingles(text: str, size: int = SHINGLE) -> Iterator[tuple[str, ...]]:
    """Every run of `size` words or marks; a shorter text is one shingle."""
    words = _WORD.findall(text)
    if len(words) < size:
        return iter([tuple(words)])
    return zip(*(words[i:] for i in range(size)), strict=False)


def containment(text: str, seen: set[tuple[str, ...]]) -> float:
    """The share of the text's distinct shingles that are in `seen`."""
    own = set(shingles(text))
    return len(own & seen) / len(own)


def without_near_duplicates(texts: list[str], seen_texts: Iterable[str], bound: float = BOUND) -> list[bool]:
    """One flag a text: keep it if at most `bound` of it occurs in the seen texts or in texts kept before."""
    wanted = {shingle for text in texts for shingle in shingles(text)}
    seen = {shingle for text in seen_texts for shingle in shingles(text) if shingle in wanted}
    keep = []
    for text in texts:
        keep.append(containment(text, seen) <= bound)
        if keep[-1]:
            seen.update(shingles(text))
    return keep
