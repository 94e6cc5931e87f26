"""Anybody's data -> documents, strictly.

| source | a document is |
|---|---|
| `.jsonl`, `.ndjson` | a line: a JSON object, its text in a field |
| `.json` | an object of the list that the file is, or of the list under "data" |
| `.csv`, `.tsv` | a row; the first line names the columns |
| `.parquet` | a row (needs `pip install 'offramp[train]'`) |
| any other file | the whole file |
| a folder | all of these in its files, hidden ones apart |
| `hf:OWNER/NAME[:CONFIG[:SPLIT]]` | a row of the hub's data set (see `hub`) |

Files are UTF-8. Every record must have the field, and in it a string that is more than white space. Ids are strings
or whole numbers and name one document each. Nothing is left out or mended silently: whatever is not so is an error
that names the file, the line and the field.
"""

from __future__ import annotations

import difflib
import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from offramp.data.bins import CORPUS_FILES
from offramp.data.document import Document, Fields
from offramp.data.hub import is_remote, remote_records
from offramp.data.jsonl import json_records, jsonl_records
from offramp.data.lines import read_text
from offramp.data.record import Record, kind
from offramp.data.tables import csv_records, parquet_records
from offramp.errors import DataError, UsageError
from offramp.text.unicode import broken_at

T = TypeVar("T")
MOST_DOCUMENTS = 1_000_000
"""In memory at a time."""
SHOWN = 80
"""Characters of a value or name that a message quotes."""
HOW_MANY = "say how many documents to read (--max-documents)"
EXPECTED = "a .jsonl, .json, .csv, .tsv, .parquet or text file, or a folder of them"
READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": jsonl_records,
    ".ndjson": jsonl_records,
    ".json": json_records,
    ".csv": csv_records,
    ".tsv": csv_records,
    ".parquet": parquet_records,
}


def read_documents(
    path: str | Path, *, field: str = "text", id_field: str = "id", limit: int | None = None
) -> list[Document]:
    """All documents, or the first `limit` of them; files of a folder in the order of their names.

    Raises DataError naming file, line and field where something is not as the module says, where there is no
    document, and where there are more than a million and no limit; UsageError for a limit below 1 and a data set of
    the hub without a limit.
    """
    if limit is None and is_remote(path):
        raise UsageError(f"{path} may be larger than any memory: {HOW_MANY}")
    found = list(first(MOST_DOCUMENTS + 1 if limit is None else limit, stream(path, Fields(field, id_field))))
    if limit is None and len(found) > MOST_DOCUMENTS:
        raise DataError(f"{path} holds more than {MOST_DOCUMENTS:,} documents: {HOW_MANY}")
    return found


def first(limit: int | None, documents: Iterator[T]) -> Iterator[T]:
    """So many of them; None is all. Raises UsageError for a limit below 1."""
    if limit is not None and limit < 1:
        raise UsageError(f"the limit is {limit} documents; read at least one")
    return itertools.islice(documents, limit)


def stream(path: str | Path, fields: Fields, seed: int | None = None) -> Iterator[Document]:
    """Documents one by one. seed: of the order of a folder's files; None is by name.

    Raises as `read_documents` does.
    """
    seen: dict[str, str] = {}
    for document in _all(path, fields, seed):
        if document.id in seen:
            raise DataError(
                f'{document.source}: field "{fields.id}" is {_shown(document.id)}, which {seen[document.id]} has too; '
                "an id names one document (an empty id field reads none: file and line are the id then)"
            )
        seen[document.id] = document.source
        yield document


def _all(path: str | Path, fields: Fields, seed: int | None) -> Iterator[Document]:
    if is_remote(path):
        name = str(path)
        yield from _documents(remote_records(name), name, name, fields)
        return
    if not str(path):
        raise DataError(f"the data has no name; give {EXPECTED}")
    root = Path(path)
    for file in _files(root, seed):
        name = _spelt(file.name if file == root else file.relative_to(root).as_posix())
        reader = READERS.get(file.suffix.lower())
        if reader is None:
            yield _whole(file, name)
        else:
            yield from _documents(reader(file), str(file), name, fields)


def _files(root: Path, seed: int | None) -> list[Path]:
    """Hidden files and folders are left out."""
    if not root.exists():
        raise DataError(f"{root} does not exist; give {EXPECTED}")
    if not root.is_dir():
        return [_regular(root)]
    if any((root / name).is_file() for name in CORPUS_FILES):
        raise DataError(f"{root} is a corpus of token ids, which only training reads; give {EXPECTED}")
    files = sorted(_visible(root))
    if not files:
        raise DataError(f"{root} holds no files; give {EXPECTED}")
    if seed is not None:
        random.Random(seed).shuffle(files)
    return files


def _visible(root: Path) -> Iterator[Path]:
    """The files in a folder and its folders. Raises DataError for what would be left out without a word."""

    def refuse(error: OSError) -> NoReturn:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error

    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(folder, name) for name in folders):
            if path.is_symlink():
                raise DataError(
                    f"{path} links to a folder, which is not followed: name it as data of its own"
                )
        yield from (_regular(Path(folder, name)) for name in files if not name.startswith("."))


def _regular(file: Path) -> Path:
    """Raises DataError for what is none: a pipe would block, a device never end, a dead link be missed."""
    if not file.is_file():
        raise DataError(f"{file} cannot be read: it is not a regular file; give {EXPECTED}")
    return file


def _spelt(name: str) -> str:
    """A file's name as text, whatever bytes it has: it begins ids."""
    return name.encode("utf-8", "backslashreplace").decode()


def _whole(file: Path, name: str) -> Document:
    text = read_text(file)
    if not text.strip():
        raise DataError(f"{file} is empty: it holds 0 tokens of text; remove it, or give it some")
    return Document(name, text, str(file))


def _documents(records: Iterator[Record], path: str, name: str, fields: Fields) -> Iterator[Document]:
    """name: begins the ids of documents that bring none. Whether they do says the first, where the user did not."""
    named = None
    for record in records:
        item, place = record.item, f"{path}, {record.where}"
        if named is None:
            named = fields.id in item or fields.id not in ("", Fields().id)
        text = _text(item, fields.text, place)
        yield Document(_id(item, fields.id, place) if named else f"{name}:{record.number}", text, place)
    if named is None:
        raise DataError(f'{path} is empty: expected at least one record with the field "{fields.text}"')


def _text(item: dict[str, Any], field: str, place: str) -> str:
    text = _value(item, field, place)
    if not isinstance(text, str):
        raise DataError(f'{place}: field "{field}" is {kind(text)}, not a string{_texts_in(item)}')
    if not text.strip():
        raise DataError(f'{place}: field "{field}" is empty; expected text, not white space alone')
    _check_unicode(text, field, place)
    return text


def _id(item: dict[str, Any], field: str, place: str) -> str:
    name = _value(item, field, place)
    if type(name) not in (str, int):
        raise DataError(f'{place}: field "{field}" is {kind(name)}; an id is a string or a whole number')
    if not str(name).strip():
        raise DataError(f'{place}: field "{field}" is empty; an id is a string or a whole number')
    _check_unicode(str(name), field, place)
    return str(name)


def _value(item: dict[str, Any], field: str, place: str) -> Any:
    """Raises DataError naming the fields there are, and the nearest of them."""
    if field in item:
        return item[field]
    near = difflib.get_close_matches(field, item, n=1, cutoff=0.5)
    hint = f" Did you mean {_shown(near[0])}?" if near else ""
    more = ", ..." if len(item) > 12 else ""
    there = ", ".join(_shown(name) for name in itertools.islice(item, 12)) + more
    raise DataError(f'{place}: no field "{field}"; its fields are {there or "none"}.{hint}')


def _check_unicode(text: str, field: str, place: str) -> None:
    if where := broken_at(text):
        raise DataError(f'{place}: field "{field}" is not valid Unicode: {where}')


def _texts_in(item: dict[str, Any]) -> str:
    """The fields that hold strings, in words."""
    names = [_shown(name) for name, value in item.items() if isinstance(value, str)]
    return f"; strings are in {', '.join(names[:12])}" if names else ""


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}...")
