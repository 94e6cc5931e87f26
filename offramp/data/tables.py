"""Tables: CSV and TSV with a header, and parquet. A row is a record, a column a field."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offramp.data.extras import extra
from offramp.data.lines import read_lines
from offramp.data.record import Record
from offramp.errors import DataError

ROWS = 256
"""Of a parquet file, in memory at a time."""


def csv_records(path: Path) -> Iterator[Record]:
    """Rows by the header's names, and the lines where they begin. Tabs part the fields of a .tsv file.

    Raises DataError for a row that does not fit the header, quotes that do not close, and as `read_lines` does.
    """
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader((line for _, line in read_lines(path)), delimiter=delimiter, strict=True)
    header: list[str] = []
    line = 1
    try:
        for row in reader:
            if row and not header:
                header = _header(row, path, line)
            elif row:
                yield Record(line, f"line {line}", _row(row, header, path, line))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: not a row of a table ({error}); {_expected(delimiter)}"
        ) from error


def _expected(delimiter: str) -> str:
    name = "tabs" if delimiter == "\t" else "commas"
    return (
        f'expected fields parted by {name}, of at most {csv.field_size_limit():,} characters, and "..." around one '
        f'that holds quotes, line breaks or {name}; a quote inside is written ""'
    )


def _header(row: list[str], path: Path, line: int) -> list[str]:
    for name in row:
        if not name.strip():
            raise DataError(f"{path}, line {line}: a column has no name; the first line names every column")
        if row.count(name) > 1:
            raise DataError(f"{path}, line {line}: two columns are called {name[:80]!r}")
    return row


def _row(row: list[str], header: list[str], path: Path, line: int) -> dict[str, Any]:
    if len(row) != len(header):
        names = ", ".join(header)[:200]
        raise DataError(
            f"{path}, line {line}: fields of the row {len(row)}, of the header {len(header)}: {names}"
        )
    return dict(zip(header, row, strict=True))


def parquet_records(path: Path) -> Iterator[Record]:
    """Rows, counted from 1. Raises DataError for a damaged file, UsageError without pyarrow."""
    parquet = extra("pyarrow.parquet", "train", "reading parquet")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            batches = file.iter_batches(ROWS)
            for number, item in enumerate((item for batch in batches for item in batch.to_pylist()), 1):
                yield Record(number, f"row {number}", item)
    except (OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path} cannot be read as parquet after row {number}: {error}") from error
