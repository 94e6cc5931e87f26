"""Charts and tables of fronts: what each arm keeps, against what it spends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from offramp.evaluation.bootstrap import Interval
from offramp.study.report.parts import Axis, Cell, Chart, Column, More, Part, Point, Series, Table
from offramp.study.report.runs import Front, apart_at, known, within

NOISE = "no difference beyond noise"
SPENT, DEPTH = "flops", "depth"
KEPT = {
    "agreement": "agreement with the full model",
    "consistency": "likeness to the full model's answer",
    "exact_match": "right answers",
}
BY = {SPENT: "FLOPs", DEPTH: "depth"}
X = {SPENT: "FLOPs, everything counted, of full depth's", DEPTH: "mean depth, blocks"}


def front_parts(
    name: str, title: str, fronts: Mapping[str, Front], looks: Mapping[str, tuple[int, int]]
) -> list[Part]:
    """Against FLOPs to see at once, against depth to open. looks: each front's colour and marker."""
    known = [y for y in KEPT if any(y in front.points[0][0]["measures"] for front in fronts.values())]
    spent, deep = (
        [_chart(f"{name}-{y}-{x}", f"{KEPT[y]}, by {BY[x]}", fronts, looks, x, y) for y in known] for x in X
    )
    return [*spent, More(f"{title}: the same by depth", tuple(deep))]


def _chart(
    name: str, title: str, fronts: Mapping[str, Front], looks: Mapping[str, tuple[int, int]], x: str, y: str
) -> Chart:
    series = []
    for label, front in fronts.items():
        points = []
        for p in range(len(front.points)):
            spent, kept = front.sample(p, x).value, within(front.interval(p, y))
            if isfinite(spent) and isfinite(kept.value):
                points.append(Point(spent, kept.value, *known(kept)[1:]))
        colour, marker = looks[label]
        series.append(Series(label, tuple(sorted(points, key=lambda point: point.x)), colour, marker))
    return Chart(name, title, Axis(X[x], percent=x != DEPTH), Axis(KEPT[y], percent=True), tuple(series))


def numbers(name: str, title: str, fronts: Mapping[str, Front], full: Front | None = None) -> Table:
    """Every front at its middle point, in kinds that do not mix: kept, spent, gone wrong."""
    columns = (
        Column("arm"),
        Column("agreement", ".1%"),
        Column("likeness", ".1%"),
        Column("right", ".1%"),
        Column("depth", ".1f"),
        Column("blocks skipped", ".1%"),
        Column("FLOPs", ".1%"),
        Column("bytes", ".1%"),
        Column("looping", ".1%"),
        Column("unfinished", ".1%"),
        Column("length", ".2f"),
    )
    measures = (
        *KEPT,
        "depth",
        "blocks_skipped",
        "flops",
        "bytes",
        "looping",
        "unfinished",
        "length_ratio",
    )
    rows = [("full depth", *_values(full, 0, measures))] if full else []
    rows += [(label, *_values(front, front.middle, measures)) for label, front in fronts.items()]
    note = (
        "Each arm at the middle one of its thresholds. Agreement: of emitted tokens with the full model's choice "
        "on the same prefix. Likeness: ROUGE-L to its own answer. Right: of questions. FLOPs and bytes: of decoding, "
        "gates, bridges, heads and propagation counted, as shares of full depth's. Length: of full depth's."
    )
    return Table(name, title, columns, tuple(rows), note)


def differences(
    name: str, title: str, fronts: Mapping[str, Front], reference: str, x: str = SPENT
) -> Table | None:
    """Every front against the reference where both spend the same of x. No sign is named inside the noise."""
    if reference not in fronts:
        return None
    pairs = [(label, measure) for label in fronts for measure in KEPT if label != reference]
    rows = [
        _difference(label, measure, fronts[label], fronts[reference], reference, x)
        for label, measure in pairs
        if measure in fronts[label].points[0][0]["measures"]
    ]
    if not rows:
        return None
    columns = (
        Column("arm"),
        Column("measure"),
        Column(f"at {BY[x]}", ".1f" if x == DEPTH else ".0%"),
        Column("difference", "+.1%"),
        Column("low", "+.1%"),
        Column("high", "+.1%"),
        Column("in words"),
    )
    note = (
        f"Against {reference}, at equal {BY[x]}, between the points of each front. Low, high: 95 % interval, paired "
        "bootstrap over prompts and training seeds. Many differences are looked at: some of those that seem beyond "
        "noise are not."
    )
    return Table(name, title, columns, tuple(rows), note)


def _difference(
    label: str, measure: str, front: Front, base: Front, reference: str, x: str
) -> tuple[Cell, ...]:
    found = apart_at(front, base, x, measure)
    if found is None:
        return label, measure, None, None, None, None, f"no {BY[x]} that both have"
    at, gap = found
    return label, measure, at, *known(gap), verdict(gap, label, reference)


def verdict(gap: Interval, label: str, reference: str) -> str:
    """Which is higher, only where the interval leaves no doubt."""
    if not isfinite(gap.value):
        return "nothing measured"
    return NOISE if gap.around_zero else f"{label if gap.value > 0 else reference} higher"


def _values(front: Front, point: int, measures: Sequence[str]) -> list[float | None]:
    values = [front.sample(point, measure).value for measure in measures]
    return [value if isfinite(value) else None for value in values]
