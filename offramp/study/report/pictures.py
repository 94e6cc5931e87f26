"""Charts as PNG, by matplotlib: an extra, so this module is imported only where it is there."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from offramp.study.report.parts import Axis, Chart, Series
from offramp.study.report.style import LIGHT

MARKERS = ("o", "s", "^", "D")
LINES = ("-", "--", ":", "-.")
DPI = 140


def draw(chart: Chart, path: Path) -> None:
    """One chart, light, with its legend beside it."""
    figure = Figure(figsize=(7.5, 4.2), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_title(chart.title, fontsize="medium")
    _axis(axes, chart.x, "x")
    _axis(axes, chart.y, "y")
    axes.grid(alpha=0.3)
    if chart.kind == "bars":
        _bars(axes, chart)
    else:
        for series in chart.series:
            _line(axes, series)
    if chart.kind == "calibration":
        axes.plot([0, 1], [0, 1], color="grey", lw=1, linestyle=":")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5))
    FigureCanvasAgg(figure).print_png(str(path))


def _line(axes: Axes, series: Series) -> None:
    look = series.marker % 4
    colour = LIGHT[series.colour % len(LIGHT)]
    x, y = [point.x for point in series.points], [point.y for point in series.points]
    axes.plot(
        x, y, marker=MARKERS[look], linestyle=LINES[look], color=colour, label=series.name, markersize=5
    )
    for point in series.points:
        if point.low is not None and point.high is not None:
            axes.plot([point.x, point.x], [point.low, point.high], color=colour, lw=1, alpha=0.6)


def _bars(axes: Axes, chart: Chart) -> None:
    names = sorted({point.x for series in chart.series for point in series.points})
    width = 0.82 / len(chart.series)
    for i, series in enumerate(chart.series):
        at = [names.index(point.x) - 0.41 + (i + 0.5) * width for point in series.points]
        colour = LIGHT[series.colour % len(LIGHT)]
        axes.bar(at, [point.y for point in series.points], width * 0.92, color=colour, label=series.name)
    axes.set_xticks(range(len(names)), [f"{name:g}" for name in names])


def _axis(axes: Axes, axis: Axis, which: str) -> None:
    side = axes.xaxis if which == "x" else axes.yaxis
    side.set_label_text(axis.label)
    if axis.percent:
        side.set_major_formatter(PercentFormatter(1.0))
    low, high = side.get_view_interval()
    side.set_view_interval(
        low if axis.low is None else axis.low, high if axis.high is None else axis.high, ignore=True
    )
