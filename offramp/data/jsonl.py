"""JSON Lines and text files, read strictly: what is wrong is named with its file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offramp.errors import DataError


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects. Raises DataError naming the line that is no json object.

    Only a line feed ends a line: what else str.splitlines cuts at, json allows inside a string.
    """
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not json ({error})") from error
        if not isinstance(item, dict):
            raise DataError(f"{path}, line {number}: a {type(item).__name__}, not an object")
        yield number, item


def read_text(path: Path) -> str:
    """A text file. Raises DataError when it cannot be read or is not UTF-8."""
    try:
        raw = path.read_bytes()
        return raw.decode("utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{raw[error.start]:02x} is not UTF-8; convert or remove the file"
        ) from error
