"""JSON Lines and files of JSON, read strictly: what is wrong is named with its file and line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from json.decoder import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any, NoReturn

from offramp.data.lines import read_lines, read_text
from offramp.data.record import Record, kind
from offramp.errors import DataError

LARGEST_JSON = 1 << 30
"""Bytes of a .json file: it is parsed whole. A .jsonl file is not."""
LIST = "data"
"""The field that holds the records of a .json file which is an object."""


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects. Raises DataError naming the line that is no JSON object.

    Only a line feed ends a line: what else str.splitlines cuts at, JSON allows inside a string.
    """
    for number, line in read_lines(path):
        if line.strip():
            yield number, _object(_parsed(line.rstrip(), path, number), path, number)


def jsonl_records(path: Path) -> Iterator[Record]:
    """As `read_jsonl`."""
    return (Record(number, f"line {number}", item) for number, item in read_jsonl(path))


def json_records(path: Path) -> Iterator[Record]:
    """The objects of a list, or of the list "data" of an object; a record's line is where it begins.

    Raises DataError for anything else, and as `read_jsonl` does.
    """
    text = read_text(path, LARGEST_JSON).rstrip()
    if not text:
        return
    whole = _parsed(text, path, 1)
    records = whole.get(LIST) if isinstance(whole, dict) else whole
    if not isinstance(records, list):
        raise DataError(
            f'{path}: expected a list of objects, or an object with one under "{LIST}"; '
            "rename it to .txt to read it as one text"
        )
    for number, (line, item) in enumerate(zip(_lines(text), records, strict=True), 1):
        yield Record(number, f"line {line}, record {number}", _object(item, path, line))


def _parsed(text: str, path: Path, line: int) -> Any:
    """line: the number of the first."""
    try:
        return DECODER.decode(text)
    except JSONDecodeError as error:
        line += error.lineno - 1
        problem = f"{error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:
        problem = str(error)
    raise DataError(f"{path}, line {line}: not json ({problem}); {_expected(path)}")


def _object(item: Any, path: Path, line: int) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise DataError(f"{path}, line {line}: {kind(item)}, not an object; {_expected(path)}")
    return item


def _expected(path: Path) -> str:
    one, many = (
        "expected one JSON object a line",
        "expected a list of objects (one object a line is a .jsonl file)",
    )
    return many if path.suffix.lower() == ".json" else one


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON; write null")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError for a key that is there twice: which of the two is meant nobody knows."""
    item = dict(pairs)
    if len(item) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return item


DECODER = JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_once)
PLAIN = JSONDecoder()
BETWEEN = re.compile(r"[\s,:]*")


def _lines(text: str) -> Iterator[int]:
    """Where each record of a text that was parsed before begins."""
    at, line, counted = _begin(text), 1, 0
    while text[at] != "]":
        line += text.count("\n", counted, at)
        counted = at
        yield line
        _, at = PLAIN.raw_decode(text, at)
        at = _after(text, at)


def _begin(text: str) -> int:
    """Behind the bracket of the list of records, at the first of them."""
    at = _after(text, 0)
    if text[at] == "{":
        key, at = None, at + 1
        while key != LIST:
            key, at = PLAIN.raw_decode(text, _after(text, at))
            at = _after(text, at)
            if key != LIST:
                _, at = PLAIN.raw_decode(text, at)
    return _after(text, at + 1)


def _after(text: str, at: int) -> int:
    """Behind the white space and separators there."""
    found = BETWEEN.match(text, at)
    assert found
    return found.end()
