"""A picture of one prompt's replies, every token on the colour of the depth it was chosen at."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from offramp.cli.demo_report import pieces
from offramp.cli.harmless import harmless
from offramp.cli.palette import shade
from offramp.zoo.showcase.settings import SKIP, VERIFY
from offramp.zoo.showcase.show import TwinReport

COLUMNS, PROMPT_LINES = 88, 5
FONT_POINTS, DPI = 9, 150
CELL = FONT_POINTS * 0.602 / 72  # inches: DejaVu Sans Mono's advance is 0.602 of its size
LINE = 0.185
MARGIN = 0.25


@dataclass(frozen=True)
class Cell:
    """A stretch of text on a grid of columns and lines; depth None is no token of the reply."""

    column: int
    line: int
    text: str
    depth: int | None


def wrapped(parts: Sequence[tuple[str, int | None]], columns: int = COLUMNS) -> Iterator[Cell]:
    """(text, depth) pairs on the grid, broken at line feeds and at the right edge."""
    column = line = 0
    for text, depth in parts:
        for number, part in enumerate(text.replace("\t", "    ").split("\n")):
            if number:
                column, line = 0, line + 1
            while part:
                if column == columns:
                    column, line = 0, line + 1
                fits, part = part[: columns - column], part[columns - column :]
                yield Cell(column, line, fits, depth)
                column += len(fits)


def draw_text(report: TwinReport, path: Path, settings: Sequence[str] = (VERIFY.name, SKIP.name)) -> None:
    """The end of the first prompt, its reply under each of the settings, and a legend."""
    trials = {name: report.trials[name][0] for name in settings}
    prompt = next(iter(trials.values())).task.prompt.prompt.splitlines()[-PROMPT_LINES:]
    texts: dict[str, list[tuple[str, int | None]]] = {f"{report.twin}, a prompt": [("\n".join(prompt), None)]}
    texts |= {name: list(pieces(trial)) for name, trial in trials.items()}
    grids = {title: list(wrapped(parts)) for title, parts in texts.items()}
    lines = sum(max((cell.line for cell in cells), default=0) + 3 for cells in grids.values())
    figure, axes = _page(lines + 2)
    top = 1
    for title, cells in grids.items():
        axes.text(0, top, title, fontsize=FONT_POINTS, weight="bold")
        _write(axes, cells, top + 1, report.num_blocks)
        top += max((cell.line for cell in cells), default=0) + 3
    _legend(axes, top, report)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a box stands for what the font lacks
        FigureCanvasAgg(figure).print_png(str(path))


def _page(lines: int) -> tuple[Figure, Axes]:
    """A page whose coordinates are columns and lines."""
    width, height = COLUMNS * CELL, lines * LINE
    figure = Figure(figsize=(width + 2 * MARGIN, height + 2 * MARGIN), dpi=DPI)
    left, bottom = MARGIN / (width + 2 * MARGIN), MARGIN / (height + 2 * MARGIN)
    axes = figure.add_axes((left, bottom, 1 - 2 * left, 1 - 2 * bottom))
    axes.set_xlim(0, COLUMNS)
    axes.set_ylim(lines, 0)
    axes.set_axis_off()
    return figure, axes


def _write(axes: Axes, cells: Sequence[Cell], top: int, num_blocks: int) -> None:
    """Text stands on the base line of its line; its colour fills the cells behind it."""
    for cell in cells:
        colours = None if cell.depth is None else shade(cell.depth, num_blocks)
        line = top + cell.line
        if colours:
            place, width = (cell.column, line - 0.75), len(cell.text)
            axes.add_patch(Rectangle(place, width, 1, color=colours.paper, linewidth=0))
        ink = colours.ink if colours else "grey" if cell.depth is None else "black"
        axes.text(cell.column, line, _safe(cell.text), family="monospace", fontsize=FONT_POINTS, color=ink)


def _safe(text: str) -> str:
    """Matplotlib takes text between two $ for a formula."""
    return harmless(text).replace("$", r"\$")


def _legend(axes: Axes, line: int, report: TwinReport) -> None:
    """One line: the depths in their colours."""
    parts: list[Cell] = [Cell(0, 0, "left after block", None)]
    for depth in report.depths:
        parts.append(Cell(parts[-1].column + len(parts[-1].text) + 1, 0, f" {depth} ", depth))
    end = parts[-1].column + len(parts[-1].text) + 1
    parts.append(Cell(end, 0, f"of {report.num_blocks}; black on white went all the way", None))
    _write(axes, parts, line, report.num_blocks)
