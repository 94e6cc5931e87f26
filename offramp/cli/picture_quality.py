"""A picture of what depth buys: agreement with the full model against mean depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from offramp.zoo.showcase.quality import Quality
from offramp.zoo.showcase.settings import SKIP
from offramp.zoo.showcase.show import TwinReport

MARKERS = ("o", "s", "D", "^", "*")
DPI = 150
LATER = "depth is where a token was chosen; under verify and defer the deeper blocks run later, in chunks"


def draw_quality(reports: Sequence[TwinReport], path: Path) -> None:
    """Every setting of each twin, and the sweep; one panel a twin."""
    figure = Figure(figsize=(9, 4.5), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(reports), sharey=True, squeeze=False)[0]
    for axes, report in zip(panels, reports, strict=True):
        axes.set_title(report.twin)
        axes.set_xlabel(f"mean depth (blocks of {report.num_blocks})")
        axes.grid(alpha=0.3)
        _curve(axes, report.sweep)
        for marker, row in zip(MARKERS, report.rows, strict=True):
            x, y = row.mean_depth, 100 * row.agreement
            axes.plot(x, y, marker, label=row.setting.name, markersize=8, linestyle="none")
    panels[0].set_ylabel("agreement with the full model (% of tokens)")
    panels[-1].legend(fontsize="small")
    figure.supxlabel(LATER, fontsize="small", color="grey")
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path))


def _curve(axes: Axes, sweep: Sequence[Quality]) -> None:
    """The sweep as a line; there may have been no time for it."""
    depths, agreement = [row.mean_depth for row in sweep], [100 * row.agreement for row in sweep]
    if sweep:
        axes.plot(depths, agreement, ".-", color="grey", lw=1, label=f"{SKIP.name}, other thresholds")
