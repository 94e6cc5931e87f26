"""A document, and which fields of a record make one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """id: its own, or made of its file and line; no other has it. source: file and line, for messages."""

    id: str
    text: str
    source: str

    def sha256(self) -> str:
        """Of the text alone, so that copies are known as such."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Fields:
    """Where a record keeps its text and its id.

    id: "id" is used where a file's first record has it; another name must be there; "" reads none. Without one a
    document is called by its file and line.
    """

    text: str = "text"
    id: str = "id"


def fingerprint(documents: Iterable[Document]) -> str:
    """A SHA-256 of all texts: equal only for the same texts, in whatever order."""
    sums = "\n".join(sorted(document.sha256() for document in documents))
    return hashlib.sha256(sums.encode()).hexdigest()
