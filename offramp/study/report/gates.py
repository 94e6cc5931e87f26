"""Gates by themselves, teacher-forced on tuning text: how well each tells right from wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from offramp.evaluation.bootstrap import Interval, Sample, difference, interval
from offramp.study.report.fronts import verdict
from offramp.study.report.parts import Axis, Cell, Chart, Column, Point, Series, Table
from offramp.study.report.runs import known, within

Tuned = Mapping[int, Mapping[str, Any]]
"""What `tune.measured` says of an arm, by training seed."""


def gate_table(name: str, title: str, tuned: Mapping[str, Tuned], parameters: Mapping[str, int]) -> Table:
    """AUROC, and what may leave at 95 % precision."""
    columns = (
        Column("gate"),
        Column("parameters", ",.0f"),
        Column("AUROC, first exit", ".3f"),
        Column("AUROC, mean of exits", ".3f"),
        Column("least seed", ".3f"),
        Column("most", ".3f"),
        Column("leave at 90% right", ".1%"),
        Column("at 95%", ".1%"),
        Column("at 99%", ".1%"),
    )
    rows = []
    for arm, seeds in tuned.items():
        means = [fmean(value for value in one["auroc"] if value is not None) for one in seeds.values()]
        first = fmean(one["auroc"][0] or 0.5 for one in seeds.values())
        most = [fmean(one["most"][at] for one in seeds.values()) for at in ("0.9", "0.95", "0.99")]
        rows.append((arm, parameters.get(arm), first, fmean(means), min(means), max(means), *most))
    note = (
        "On tuning text, teacher-forced, every token asked at every exit. Leave at 95% right: the largest share of "
        "tokens that may leave, one bar for all exits, while 95 % of them have the full model's token. Least, most: "
        "of the training seeds."
    )
    return Table(name, title, columns, tuple(rows), note)


def gate_differences(
    name: str, title: str, tuned: Mapping[str, Tuned], reference: str, share: float
) -> Table | None:
    """Of the tokens that leave, how many rightly, at an equal share that leaves; against the reference."""
    if reference not in tuned:
        return None
    rows: list[tuple[Cell, ...]] = []
    base = _right(tuned[reference], share)
    for arm, seeds in tuned.items():
        mine = _right(seeds, share)
        here = within(interval(mine))
        gap = Interval(0, 0, 0) if arm == reference else _apart(mine, base)
        said = "" if arm == reference else verdict(gap, arm, reference)
        shown = (None, None, None) if arm == reference else known(gap)
        rows.append((arm, *known(here), *shown, said))
    columns = (
        Column("gate"),
        Column("right", ".1%"),
        Column("low", ".1%"),
        Column("high", ".1%"),
        Column("difference", "+.1%"),
        Column("low", "+.1%"),
        Column("high", "+.1%"),
        Column("in words"),
    )
    note = (
        f"Right: of the {share:.0%} of tokens that leave. Differences against {reference}; 95 % intervals by paired "
        "bootstrap over documents and training seeds."
    )
    return Table(name, title, columns, tuple(rows), note)


def auroc_chart(
    name: str, title: str, tuned: Mapping[str, Tuned], looks: Mapping[str, tuple[int, int]]
) -> Chart:
    """By exit, means over the seeds; whiskers from the least to the most."""
    series = []
    for arm, seeds in tuned.items():
        after = next(iter(seeds.values()))["after"]
        columns = [
            [one["auroc"][e] for one in seeds.values() if one["auroc"][e] is not None]
            for e in range(len(after))
        ]
        points = [
            Point(float(at), fmean(values), min(values), max(values))
            for at, values in zip(after, columns, strict=True)
            if values
        ]
        series.append(Series(arm, tuple(points), *looks[arm]))
    return Chart(name, title, Axis("exit after so many blocks"), Axis("AUROC"), tuple(series))


def curve_chart(
    name: str, title: str, tuned: Mapping[str, Tuned], looks: Mapping[str, tuple[int, int]]
) -> Chart:
    """Share right of those that leave, against the share that leaves, of the first seed."""
    series = []
    for arm, seeds in tuned.items():
        curve = next(iter(seeds.values()))["curve"][::4]
        points = tuple(Point(share, right) for share, right, _ in curve if share > 0)
        series.append(Series(arm, points, *looks[arm]))
    return Chart(
        name,
        title,
        Axis("share of tokens that leave", percent=True),
        Axis("right, of those", percent=True),
        tuple(series),
    )


def reliability_chart(name: str, title: str, one: Mapping[str, Any]) -> Chart:
    """How often an exit is right, against what its gate says, of one training."""
    series = tuple(
        Series(f"after {at}", tuple(Point(said, right) for said, right, count in bins if count >= 10), e, e)
        for e, (at, bins) in enumerate(zip(one["after"], one["reliability"], strict=True))
    )
    x, y = Axis("what the gate says", True, 0, 1), Axis("the exit's token is the full model's", True, 0, 1)
    return Chart(name, title, x, y, series, "calibration")


def calibration_error(one: Mapping[str, Any]) -> float:
    """Expected calibration error over all exits: mean distance of what gates say from how often exits are right."""
    bins = [each for exit in one["reliability"] for each in exit]
    return sum(count * abs(said - right) for said, right, count in bins) / max(
        1, sum(each[2] for each in bins)
    )


def _right(seeds: Tuned, share: float) -> Sample:
    """Documents' tokens that leave rightly, of those that leave."""
    rows = [one["points"][f"{share:g}"]["documents"] for one in seeds.values()]
    return Sample.of([[(float(right), float(left)) for _, left, right, _ in row] for row in rows])


def _apart(a: Sample, b: Sample) -> Interval:
    seeds: Sequence[int] = (len(a.part_SI), len(b.part_SI))
    if len(set(seeds)) > 1 and 1 not in seeds:
        fewest = min(seeds)
        a, b = (Sample(one.part_SI[:fewest], one.whole_SI[:fewest]) for one in (a, b))
    return difference(a, b)
