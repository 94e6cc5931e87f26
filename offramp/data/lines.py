"""Text files as UTF-8, whole or line by line, within limits: what is wrong is named with its file and line."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from offramp.errors import DataError

LONGEST_LINE = 64 << 20
"""Bytes: ten books."""
LARGEST_TEXT = 4 << 30
"""Bytes of a file that is read whole."""
MOST_LINES = 100_000_000
SIGNS = {
    codecs.BOM_UTF32_LE: "UTF-32: convert it to UTF-8",
    codecs.BOM_UTF32_BE: "UTF-32: convert it to UTF-8",
    codecs.BOM_UTF16_LE: "UTF-16: convert it to UTF-8",
    codecs.BOM_UTF16_BE: "UTF-16: convert it to UTF-8",
    b"\x1f\x8b": "gzip: unpack it",
    b"\x28\xb5\x2f\xfd": "zstandard: unpack it",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"%PDF": "a PDF: convert it to text",
    b"PAR1": "parquet: name it .parquet",
}
"""How files begin that are no UTF-8 text, what they are and what helps. The longer signs come first."""


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbers from 1, and lines with their ends. Only a line feed ends a line.

    Raises DataError where the file cannot be read, is not UTF-8, or is beyond the limits.
    """
    with _opened(path) as file:
        for number in itertools.count(1):
            raw = file.readline(LONGEST_LINE + 1)
            if not raw:
                return
            if len(raw) > LONGEST_LINE:
                raise DataError(
                    f"{path}, line {number}: longer than {LONGEST_LINE:,} bytes, the most a line has"
                )
            if number > MOST_LINES:
                raise DataError(
                    f"{path} has more than {MOST_LINES:,} lines, the most a file may have: cut it"
                )
            yield number, _decoded(raw, path, number)


def read_text(path: Path, most: int = LARGEST_TEXT) -> str:
    """A whole file of at most so many bytes. Raises DataError as `read_lines` does."""
    with _opened(path) as file:
        raw = file.read(most + 1)
    if len(raw) > most:
        raise DataError(
            f"{path} is larger than {most:,} bytes: cut it into documents, one a line of a .jsonl file"
        )
    return _decoded(raw, path, 1)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file behind its byte order mark, if it has one. A pipe would block, a device never end: both are refused."""
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path} cannot be read: it is not a regular file")
        with path.open("rb") as file:
            head = file.read(4)
            for sign, meaning in SIGNS.items():
                if head.startswith(sign):
                    raise DataError(f"{path} looks like {meaning}")
            file.seek(0)
            if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                file.seek(0)
            yield file
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _decoded(raw: bytes, path: Path, first: int) -> str:
    """first: the number of the first line."""
    if (zero := raw.find(0)) >= 0:
        raise DataError(
            f"{path}, line {_line(raw, zero, first)}: a zero byte, which no text has; "
            "if this is UTF-16, convert it to UTF-8"
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        raise DataError(
            f"{path}, line {_line(raw, at, first)}: byte 0x{raw[at]:02x} is not UTF-8; convert or remove the file"
        ) from error


def _line(raw: bytes, at: int, first: int) -> int:
    return first + raw.count(b"\n", 0, at)
