"""What a report is made of, before it is drawn: the same parts become a page, pictures, CSV and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Cell = str | float | None
"""A table's cell. A number is shown by its column's format; None where nothing is known."""


@dataclass(frozen=True)
class Point:
    """low, high: the interval of y, where there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """colour, marker: numbers that series of one family share; a marker also says how a line is dashed."""

    name: str
    points: tuple[Point, ...]
    colour: int = 0
    marker: int = 0


@dataclass(frozen=True)
class Axis:
    """percent: numbers are shares.   low, high: where the axis ends, whatever the points; None: where they do."""

    label: str
    percent: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Chart:
    """kind: lines; bars, one for every series at each x; or calibration: points beside the diagonal."""

    name: str
    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    kind: Literal["lines", "bars", "calibration"] = "lines"


@dataclass(frozen=True)
class Column:
    """format: as in `format`; "%" multiplies. text: what the column is called."""

    text: str
    format: str = ""


@dataclass(frozen=True)
class Table:
    """The first column names the row. note: what its words mean."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Token:
    text: str
    depth: int
    gate: float | None
    agreed: bool


@dataclass(frozen=True)
class HeatMap:
    """One reply, token by token. blocks: of the model."""

    name: str
    title: str
    blocks: int
    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class More:
    """Parts that are shown when asked for."""

    title: str
    parts: tuple[Chart | Table | HeatMap, ...]


Part = Chart | Table | HeatMap | More


@dataclass(frozen=True)
class Section:
    """id: its anchor."""

    id: str
    title: str
    text: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Report:
    title: str
    summary: tuple[str, ...]
    provenance: Mapping[str, str]
    sections: tuple[Section, ...]


def leaves(report: Report) -> list[Chart | Table | HeatMap]:
    """All charts, tables and heat maps, in order."""
    found: list[Chart | Table | HeatMap] = []
    for section in report.sections:
        for part in section.parts:
            found += part.parts if isinstance(part, More) else [part]
    return found


def shown(cell: Cell, format: str) -> str:
    """A cell as people read it; a dash where nothing is known."""
    if cell is None:
        return "–"
    return cell if isinstance(cell, str) else f"{cell:{format or 'g'}}"
