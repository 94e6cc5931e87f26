"""Charts as SVG that stands in a page: no script, no font of its own, colours by the page's classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from offramp.study.report.parts import Axis, Chart, Point, Series
from offramp.study.report.style import COLOURS
from offramp.study.report.words import plain

WIDTH, HEIGHT = 440, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 22, 10, 44
DASHES = ("", "6 3", "2 3", "8 3 2 3")
TICKS = 5


class Scale:
    """From an axis's numbers to places on the paper."""

    def __init__(self, axis: Axis, values: Sequence[float], start: float, end: float) -> None:
        low = min(values) if axis.low is None else axis.low
        high = max(values) if axis.high is None else axis.high
        if high <= low:
            low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
        self.step = _step(high - low)
        self.low = math.floor(low / self.step + 1e-9) * self.step if axis.low is None else axis.low
        self.high = math.ceil(high / self.step - 1e-9) * self.step if axis.high is None else axis.high
        self.axis, self.start, self.end = axis, start, end

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + (self.end - self.start) * min(max(share, -0.02), 1.02), 1)

    def ticks(self) -> list[tuple[float, str]]:
        count = round((self.high - self.low) / self.step)
        values = [self.low + i * self.step for i in range(count + 1)]
        return [(value, _said(value, self.step, self.axis.percent)) for value in values]


def chart_svg(chart: Chart) -> str:
    """The chart without its title and legend."""
    points = [point for series in chart.series for point in series.points]
    if not points:
        return '<p class="empty">no results yet</p>'
    if chart.kind == "bars":
        return _framed(chart, *_bars(chart))
    y = Scale(
        chart.y, [v for p in points for v in (p.y, p.low, p.high) if v is not None], HEIGHT - BOTTOM, TOP
    )
    x = Scale(chart.x, [point.x for point in points], LEFT, WIDTH - RIGHT)
    inside = [_diagonal(x, y)] if chart.kind == "calibration" else []
    inside += [_series(series, x, y) for series in chart.series]
    return _framed(chart, _grid(x, y), "".join(inside))


def legend(chart: Chart) -> str:
    """A list of the series, each with its line and marker."""
    items = []
    for series in chart.series:
        colour = series.colour % COLOURS
        if chart.kind == "bars":
            sign = f'<rect class="f{colour}" x="8" y="1" width="14" height="10"/>'
        else:
            dash = _dash(series.marker)
            sign = f'<line class="line c{colour}"{dash} x1="0" y1="6" x2="30" y2="6"/>' + _mark(series, 15, 6)
        items.append(f'<li><svg viewBox="0 0 30 12" aria-hidden="true">{sign}</svg>{plain(series.name)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def _framed(chart: Chart, grid: str, inside: str) -> str:
    """With what the axes are called."""
    across, down = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    named = (
        f'<text x="{across}" y="{HEIGHT - 6}" text-anchor="middle">{plain(chart.x.label)}</text>'
        f'<text transform="translate(13 {down}) rotate(-90)" text-anchor="middle">{plain(chart.y.label)}</text>'
    )
    label = plain(chart.title)
    drawn = f"{grid}{inside}{named}"
    return f'<svg class="chart" role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}">{drawn}</svg>'


def _grid(x: Scale | None, y: Scale) -> str:
    lines = []
    for value, text in y.ticks():
        at = y.at(value)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        lines.append(f'<text class="tick" x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{text}</text>')
    for value, text in x.ticks() if x else ():
        at = x.at(value) if x else 0
        lines.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        lines.append(
            f'<text class="tick" x="{at}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{text}</text>'
        )
    return "".join(lines)


def _series(series: Series, x: Scale, y: Scale) -> str:
    colour = series.colour % COLOURS
    places = [(x.at(point.x), y.at(point.y)) for point in series.points]
    path = " ".join(f"{a},{b}" for a, b in places)
    drawn = [f'<polyline class="line c{colour}"{_dash(series.marker)} points="{path}"/>']
    for point, (a, b) in zip(series.points, places, strict=True):
        if point.low is not None and point.high is not None:
            low, high = y.at(point.low), y.at(point.high)
            drawn.append(f'<line class="whisker c{colour}" x1="{a}" x2="{a}" y1="{low}" y2="{high}"/>')
        drawn.append(_mark(series, a, b, _told(series, point, x, y)))
    return f"<g>{''.join(drawn)}</g>"


def _told(series: Series, point: Point, x: Scale, y: Scale) -> str:
    said = f"{series.name}: {_exact(point.x, x.axis)}, {_exact(point.y, y.axis)}"
    if point.low is None or point.high is None:
        return said
    return f"{said} ({_exact(point.low, y.axis)} to {_exact(point.high, y.axis)})"


def _mark(series: Series, a: float, b: float, title: str = "") -> str:
    """A marker of the series; its title is shown where a pointer rests."""
    kind, inside = f'class="f{series.colour % COLOURS}"', f"<title>{plain(title)}</title>" if title else ""
    match series.marker % 4:
        case 0:
            return f'<circle {kind} cx="{a}" cy="{b}" r="3.6">{inside}</circle>'
        case 1:
            return (
                f'<rect {kind} x="{a - 3.2:.1f}" y="{b - 3.2:.1f}" width="6.4" height="6.4">{inside}</rect>'
            )
        case 2:
            return f'<path {kind} d="M{a} {b - 4.4:.1f}l4.2 7.6h-8.4z">{inside}</path>'
    return f'<path {kind} d="M{a} {b - 4.6:.1f}l4.6 4.6l-4.6 4.6l-4.6 -4.6z">{inside}</path>'


def _bars(chart: Chart) -> tuple[str, str]:
    """Grid and bars: groups by x, which is a name here, of equal width."""
    names = sorted({point.x for series in chart.series for point in series.points})
    y = Scale(chart.y, [p.y for series in chart.series for p in series.points] + [0], HEIGHT - BOTTOM, TOP)
    group = (WIDTH - RIGHT - LEFT) / len(names)
    width = group * 0.82 / len(chart.series)
    drawn = []
    for i, name in enumerate(names):
        middle = LEFT + (i + 0.5) * group
        text = f"{name:g}"
        drawn.append(
            f'<text class="tick" x="{middle:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{text}</text>'
        )
    for s, series in enumerate(chart.series):
        for point in series.points:
            at = LEFT + names.index(point.x) * group + group * 0.09 + s * width
            top = y.at(point.y)
            size = (
                f'x="{at:.1f}" y="{top}" width="{max(width - 1, 1):.1f}" height="{max(y.at(0) - top, 0):.1f}"'
            )
            title = f"{series.name}, {point.x:g}: {_exact(point.y, chart.y)}"
            drawn.append(
                f'<rect class="f{series.colour % COLOURS}" {size}><title>{plain(title)}</title></rect>'
            )
    return _grid(None, y), "".join(drawn)


def _diagonal(x: Scale, y: Scale) -> str:
    return f'<line class="diagonal" x1="{x.at(0)}" y1="{y.at(0)}" x2="{x.at(1)}" y2="{y.at(1)}"/>'


def _dash(marker: int) -> str:
    dash = DASHES[marker % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten: about TICKS of them in the span."""
    rough = span / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * unit for unit in (1, 2, 5, 10) if power * unit >= rough * 0.999)


def _said(value: float, step: float, percent: bool) -> str:
    scale = 100 if percent else 1
    digits = max(0, -math.floor(math.log10(step * scale) + 1e-9))
    return f"{value * scale:.{digits}f}{'%' if percent else ''}".replace("-0%", "0%")


def _exact(value: float, axis: Axis) -> str:
    return f"{value:.1%}" if axis.percent else f"{value:.3g}"
