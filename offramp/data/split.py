"""Documents cut into parts, for tuning, calibrating and testing: by what they say, not by where they stand."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence

from offramp.data.document import Document
from offramp.errors import DataError, UsageError

SURE = 0.99
"""How probable it shall be that the number of documents a message asks for leaves no part empty."""


def split(
    documents: Sequence[Document], shares: Mapping[str, float], seed: int = 0
) -> dict[str, list[Document]]:
    """{"tune": 0.2, "calibrate": 0.6, "test": 0.2} -> the documents of each part, in their order.

    Where a document goes depends on its text, the seed and the shares alone: copies go to one part, and
    other documents, another order or another name move nothing. So shares are met on average, not exactly.
    Raises UsageError for shares that are not positive or do not add up to 1, DataError where a part would be empty.
    """
    if not shares or min(shares.values()) <= 0 or not math.isclose(sum(shares.values()), 1, abs_tol=1e-9):
        given = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise UsageError(f"shares are above 0 and add up to 1; these are {given or 'none'}")
    names = list(shares)
    edges = list(itertools.accumulate(shares.values()))[:-1]
    parts: dict[str, list[Document]] = {name: [] for name in names}
    for document in documents:
        at = _uniform(document.text, seed)
        parts[names[sum(at >= edge for edge in edges)]].append(document)
    _refuse_empty(parts, shares)
    return parts


def _uniform(text: str, seed: int) -> float:
    """A number in [0, 1) that a text always has, and no other is likely to."""
    digest = hashlib.sha256(f"{seed}\n{text}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _refuse_empty(parts: Mapping[str, Sequence[Document]], shares: Mapping[str, float]) -> None:
    empty = [name for name, part in parts.items() if not part]
    if not empty:
        return
    texts = {document.text for part in parts.values() for document in part}
    misses = (1 - SURE) / len(shares)  # how often each part may be empty
    needed = max(math.ceil(math.log(misses, 1 - share)) if share < 1 else 1 for share in shares.values())
    sizes = ", ".join(f"{name} {len(part)}" for name, part in parts.items())
    raise DataError(
        f"{sum(map(len, parts.values()))} documents ({len(texts)} different texts) leave {' and '.join(empty)} empty "
        f"(documents: {sizes}); give at least {max(needed, len(texts) + 1)} different texts, or other shares"
    )
