"""Documents of token ids, for training.

What can be read: a corpus folder (`train.bin`, `qa.bin`: see `bins`), and all that `reading` reads.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offramp.data.bins import CORPUS_FILES, SEPARATOR, read_ids
from offramp.data.document import Fields
from offramp.data.hub import is_remote
from offramp.data.reading import first, stream
from offramp.errors import DataError

Ids = Sequence[int]
Encode = Callable[[str], list[int]]

CHARACTERS_PER_TOKEN = 16
"""More than any tokenizer packs into a token on average: so much of a huge text is tokenized, no more."""


@dataclass(frozen=True)
class Documents:
    """Token ids for training and, from other documents, for measuring. source: the path they came from."""

    training: list[Ids]
    held_out: list[Ids]
    source: str

    def sha256(self) -> str:
        """Of all ids: equal only for the same documents in the same order."""
        digest = hashlib.sha256()
        for ids in (*self.training, (), *self.held_out):
            digest.update(np.asarray([len(ids), *ids], "<i8").tobytes())
        return digest.hexdigest()


def load_documents(
    path: str | Path,
    encode: Encode,
    max_tokens: int = 4_000_000,
    held_out: float = 0.1,
    seed: int = 0,
    *,
    field: str = "text",
    id_field: str = "id",
    max_documents: int | None = None,
) -> Documents:
    """At most about `max_tokens` ids, a share of the documents held out. A single document gives its end.

    Reading stops when there is enough. field, id_field: where records keep their text and id; see `reading`.
    Raises DataError naming the file, line and field that cannot be read, and when there is not enough text;
    UsageError for max_documents below 1.
    """
    if is_remote(path) or not (Path(path) / CORPUS_FILES[0]).is_file():
        texts = first(max_documents, stream(path, Fields(field, id_field), seed))
        found = list(_encoded((document.text for document in texts), encode, max_tokens))
    else:
        found = list(first(max_documents, _corpus(Path(path), max_tokens, seed)))
    tokens = sum(map(len, found))
    if tokens < 64:
        raise DataError(f"{path} holds {tokens} tokens of text; training needs at least 64, better 100,000")
    if len(found) == 1:
        edge = round(tokens * (1 - held_out))
        return Documents([found[0][:edge]], [found[0][edge:]], str(path))
    random.Random(seed).shuffle(found)
    count = min(max(1, round(len(found) * held_out)), len(found) - 1)
    return Documents(found[count:], found[:count], str(path))


def _encoded(texts: Iterable[str], encode: Encode, max_tokens: int) -> Iterator[Ids]:
    for text in texts:
        ids = encode(text[: max_tokens * CHARACTERS_PER_TOKEN])[:max_tokens]
        if ids:
            yield ids
        max_tokens -= len(ids)
        if max_tokens <= 0:
            return


def _corpus(folder: Path, max_tokens: int, seed: int) -> Iterator[Ids]:
    """Random documents, half of the tokens from each of the two files."""
    for name in CORPUS_FILES:
        ids = read_ids(folder / name)
        starts = np.flatnonzero(ids == SEPARATOR)
        documents = np.split(ids, starts[1:]) if len(starts) else []
        random.Random(f"{seed} {name}").shuffle(documents)
        left = max_tokens // 2
        for document in documents:
            yield document[:left].tolist()
            left -= len(document)
            if left <= 0:
                break
