"""A report's files: the page, and beside it every chart and table as CSV and JSON, and charts as pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from offramp.errors import DataError
from offramp.files import replacement, write_whole
from offramp.study.manifest import Manifest
from offramp.study.report.contents import report
from offramp.study.report.page import page
from offramp.study.report.parts import Chart, Report, Table, leaves
from offramp.study.report.runs import read_runs
from offramp.study.results import slug

PAGE = "report.html"

DAMAGED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What reading goes wrong with where a result was written by hand."""

Draw = Callable[[Chart, Path], None]
"""Draws a chart into a file."""


def write_report(folder: Path, manifest: Manifest, draw: Draw | None = None) -> Path:
    """Write `folder`/report from the results there are; the page's path. draw: for pictures; None draws none.

    Raises DataError for a damaged result.
    """
    try:
        made = report(read_runs(folder, manifest))
        page(made)  # what cannot be drawn is said before anything is written
    except DAMAGED as problem:
        raise DataError(
            f"{folder}/results or study.json is not as a study writes it ({problem!r}); remove {folder}/results, and "
            "`offramp study` finds it all anew"
        ) from problem
    return write_parts(made, folder / "report", draw)


def write_parts(made: Report, home: Path, draw: Draw | None = None) -> Path:
    """The files of a report."""
    home.mkdir(parents=True, exist_ok=True)
    for part in leaves(made):
        name = slug(part.name)
        write_whole(home / f"{name}.json", _clean(json.dumps(asdict(part), indent=1, ensure_ascii=False)))
        if isinstance(part, Chart | Table):
            rows = _chart(part) if isinstance(part, Chart) else _table(part)
            write_whole(home / f"{name}.csv", _clean(rows))
        if isinstance(part, Chart) and draw is not None and part.series:
            with replacement(home / f"{name}.png") as fresh:
                draw(part, fresh)
    write_whole(home / PAGE, page(made))
    return home / PAGE


def _clean(text: str) -> str:
    """Halves of surrogate pairs, which no file can hold, as their numbers."""
    return text.encode("utf-8", "backslashreplace").decode()


def _table(table: Table) -> str:
    return _csv([[column.text for column in table.columns], *table.rows])


def _chart(chart: Chart) -> str:
    rows = [[s.name, p.x, p.y, p.low, p.high] for s in chart.series for p in s.points]
    return _csv([["series", chart.x.label, chart.y.label, "low", "high"], *rows])


def _csv(rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()
