"""A picture of a bench: each engine's ratio to our full depth, with its interval."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from offramp.bench.ours import Mode
from offramp.bench.report import Report

DPI = 140
OURS, OTHERS = "#2a6f97", "#8d99ae"


def draw(report: Report, path: Path) -> None:
    """The fastest on top; PNG or SVG by the path's end."""
    found = [(line, line.ratio) for line in report.lines if line.ratio is not None]
    found.sort(key=lambda pair: pair[1].value)
    figure = Figure(figsize=(8, 0.6 + 0.34 * len(found)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for place, (line, ratio) in enumerate(found):
        colour = OURS if Mode.named(line.engine) else OTHERS
        axes.barh(place, ratio.value, color=colour, height=0.7)
        if ratio.low is not None and ratio.high is not None:
            axes.plot([ratio.low, ratio.high], [place, place], color="black", lw=1.2)
    axes.axvline(1, color="grey", lw=1, linestyle=":")
    axes.set_yticks(range(len(found)), [line.engine for line, _ in found])
    axes.set_xlabel("tokens a second over our full depth's (median over rounds, 95 % interval)")
    labels = ", ".join((report.conditions.model, *report.conditions.labels, report.conditions.dtype))
    axes.set_title(labels, fontsize="medium")
    FigureCanvasAgg(figure)
    figure.savefig(path)
