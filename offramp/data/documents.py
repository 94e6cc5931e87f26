"""Text on disk -> documents of token ids.

What can be read: a corpus folder (`train.bin`, `qa.bin`: see `bins`), a .jsonl file with a "text" in every
line, any other file as one text, and a folder of such files.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offramp.data.bins import SEPARATOR, read_ids
from offramp.data.jsonl import read_jsonl, read_text
from offramp.errors import DataError
from offramp.text.unicode import broken_at

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
    path: Path, encode: Encode, max_tokens: int = 4_000_000, held_out: float = 0.1, seed: int = 0
) -> Documents:
    """At most about `max_tokens` ids, a share of the documents held out. A single document gives its end.

    Raises DataError naming the file, and line, that cannot be read, and when there is not enough text.
    """
    path = Path(path)
    is_corpus = (path / "train.bin").is_file()
    found = list(_corpus(path, max_tokens, seed) if is_corpus else _texts(path, encode, max_tokens, seed))
    tokens = sum(map(len, found))
    if tokens < 64:
        raise DataError(f"{path} holds {tokens} tokens of text; training needs at least 64, better 100,000")
    if len(found) == 1:
        edge = round(tokens * (1 - held_out))
        return Documents([found[0][:edge]], [found[0][edge:]], str(path))
    random.Random(seed).shuffle(found)
    count = min(max(1, round(len(found) * held_out)), len(found) - 1)
    return Documents(found[count:], found[:count], str(path))


def _texts(path: Path, encode: Encode, max_tokens: int, seed: int) -> Iterator[Ids]:
    for text in _read_all(path, seed):
        ids = encode(text[: max_tokens * CHARACTERS_PER_TOKEN])[:max_tokens]
        if ids:
            yield ids
        max_tokens -= len(ids)
        if max_tokens <= 0:
            return


def _read_all(path: Path, seed: int) -> Iterator[str]:
    """Texts one by one, of a folder's files in random order: the limit then takes some of each kind."""
    if not path.exists():
        raise DataError(f"{path} does not exist; give a text file, a .jsonl file or a folder of them")
    files = sorted(file for file in path.rglob("*") if _is_text_file(file, path)) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no files; give a folder of text or .jsonl files")
    random.Random(seed).shuffle(files)
    for file in files:
        yield from _jsonl_texts(file) if file.suffix == ".jsonl" else [read_text(file)]


def _is_text_file(file: Path, root: Path) -> bool:
    """Hidden files and folders are left out."""
    return file.is_file() and not any(part.startswith(".") for part in file.relative_to(root).parts)


def _jsonl_texts(path: Path) -> Iterator[str]:
    for number, item in read_jsonl(path):
        text = item.get("text")
        if not isinstance(text, str):
            raise DataError(f'{path}, line {number}: no "text" of type string; its keys are {sorted(item)}')
        if where := broken_at(text):
            raise DataError(f'{path}, line {number}: "text" is not valid Unicode: {where}')
        yield text


def _corpus(folder: Path, max_tokens: int, seed: int) -> Iterator[Ids]:
    """Random documents, half of the tokens from each of the two files."""
    for name in ("train.bin", "qa.bin"):
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
