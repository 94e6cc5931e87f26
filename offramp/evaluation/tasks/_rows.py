"""What a task's source holds, row by row; what is wrong is named with file, line and field.

A source is a file as `data.reading` reads it, .tsv without a header, .txt (one row, its "text"), or the hub's.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offramp.data.hub import is_remote, remote_records
from offramp.data.lines import read_lines, read_text
from offramp.data.reading import READERS
from offramp.data.record import Record
from offramp.errors import DataError


@dataclass(frozen=True)
class Row:
    """One object of a source. where: its file and line, as an error says it."""

    fields: Mapping[str, Any]
    where: str

    def __contains__(self, field: str) -> bool:
        return field in self.fields

    def text(self, field: str) -> str:
        """A text that is not empty."""
        value = self._value(field)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(field, "a text that is not empty")
        return value

    def texts(self, field: str) -> list[str]:
        """A list of one text or more."""
        value = self._value(field)
        if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
            raise self.wrong(field, "a list of at least one text")
        return value

    def index(self, field: str, count: int) -> int:
        """A number that counts from 0, below `count`."""
        value = self._value(field)
        if not isinstance(value, int) or not 0 <= value < count:
            raise self.wrong(field, f"a number from 0 to {count - 1}")
        return int(value)

    def row(self, field: str) -> Row:
        """An object within this one."""
        value = self._value(field)
        if not isinstance(value, Mapping):
            raise self.wrong(field, "an object")
        return Row(value, f"{self.where}, {field}")

    def rows(self, field: str) -> list[Row]:
        """A list of objects. An object of lists, as tables hold it, is taken apart."""
        value = self._value(field)
        if isinstance(value, Mapping) and all(isinstance(column, list) for column in value.values()):
            value = [dict(zip(value, row, strict=False)) for row in zip(*value.values(), strict=False)]
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            raise self.wrong(field, "a list of objects")
        return [Row(item, f"{self.where}, {field}[{i}]") for i, item in enumerate(value)]

    def wrong(self, field: str, wanted: str) -> DataError:
        """The error that a field is not as it must be."""
        found = repr(self.fields.get(field))
        found = found if len(found) <= 60 else f"{found[:57]}..."
        return DataError(f'{self.where}: "{field}" is {found}; it must be {wanted}')

    def _value(self, field: str) -> Any:
        if field not in self.fields:
            raise DataError(f'{self.where}: no "{field}"; its keys are {sorted(map(str, self.fields))}')
        return self.fields[field]


def read_rows(source: str | Path, columns: tuple[str, ...] = ()) -> Iterator[Row]:
    """The rows of a file, or of the hub's "hf:owner/name:config:split".

    columns: names for what the tabs of a .tsv file divide, where the task's has no header.
    Raises DataError naming the file and line that cannot be read, and for a source without rows.
    """
    found = False
    for record in _records(source, columns):
        found = True
        yield Row(record.item, f"{source}, {record.where}")
    if not found:
        raise DataError(f"{source} is empty; give a file with at least one question")


def _records(source: str | Path, columns: tuple[str, ...]) -> Iterator[Record]:
    if is_remote(source):
        return remote_records(str(source))
    path = Path(source)
    if not path.is_file():
        raise DataError(f"{path} is no file; give one, or a data set of the hub: hf:OWNER/NAME:CONFIG:SPLIT")
    ending = path.suffix.lower()
    if ending == ".tsv" and columns:
        return _without_header(path, columns)
    if ending == ".txt":
        return iter([Record(1, "line 1", {"text": read_text(path)})])
    if ending not in READERS:
        raise DataError(f"{path} must be a {', '.join(READERS)} or .txt file, and be named so")
    return READERS[ending](path)


def _without_header(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    lines = csv.reader((line for _, line in read_lines(path)), delimiter="\t")
    try:
        for row in lines:
            where = f"line {lines.line_num}"
            if len(row) != len(columns):
                raise DataError(
                    f"{path}, {where}: {len(row)} fields that tabs divide; there must be {', '.join(columns)}"
                )
            yield Record(lines.line_num, where, dict(zip(columns, row, strict=True)))
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num}: {error}") from error
