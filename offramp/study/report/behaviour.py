"""Where tokens left, how texts go wrong, the paper's reduction factor, and replies token by token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from math import isfinite

from offramp.study.arms import REFERENCE
from offramp.study.measured import Chosen
from offramp.study.plan import LOSSY
from offramp.study.report.parts import (
    Axis,
    Cell,
    Chart,
    Column,
    HeatMap,
    More,
    Part,
    Point,
    Section,
    Series,
    Table,
    Token,
)
from offramp.study.report.runs import Arm, Front, Runs, within

ARMS = {
    **{name: Arm("gates", REFERENCE, name) for name in (LOSSY, "skip", "defer", "verify")},
    "copy_token": Arm("gates", REFERENCE, "copy_token"),
}
SHOWN = 400
"""Tokens of a heat map at most."""


def behaviour(runs: Runs, model: str) -> Iterator[Section]:
    """Nothing, where nothing has run."""
    fronts = {name: found for name, arm in ARMS.items() if (found := runs.front(model, arm))}
    full = runs.alone(f"{model}/full")
    if not fronts:
        return
    parts: list[Part] = [
        _histogram(runs, model, fronts),
        _degeneration(model, fronts, full),
        _reduction(model, fronts),
    ]
    parts += [More("replies token by token", tuple(_heat_maps(model, fronts)))]
    text = (
        f"One gate ({REFERENCE}), at the middle of its thresholds. In the texts a token is coloured by the depth it "
        "was chosen at, plain at full depth; a wavy line marks one that the full model would not have chosen there."
    )
    yield Section(f"{model}-behaviour", f"{model}: depths, texts, and what goes wrong", text, tuple(parts))


def _histogram(runs: Runs, model: str, fronts: Mapping[str, Front]) -> Chart:
    counts = {name: _depths(front) for name, front in fronts.items()}
    if (scores := runs.one(f"{model}/scores")) is not None:
        counts["oracle"] = Counter({int(depth): count for depth, count in scores["oracle"]["depths"].items()})
    depths = sorted({depth for each in counts.values() for depth in each})
    series = tuple(
        Series(name, tuple(Point(depth, each[depth] / max(1, each.total())) for depth in depths), i, i)
        for i, (name, each) in enumerate(counts.items())
    )
    return Chart(
        f"{model}-depths",
        "where tokens are chosen, by propagation; oracle: where they could be",
        Axis("blocks behind the choice"),
        Axis("share of tokens", percent=True, low=0),
        series,
        "bars",
    )


def _depths(front: Front) -> Counter[int]:
    found: Counter[int] = Counter()
    for one in front.points[front.middle]:
        found.update({int(depth): count for depth, count in one["depths"].items()})
    return found


def _degeneration(model: str, fronts: Mapping[str, Front], full: Front | None) -> Table:
    """Loose thresholds show it best; those prompts that loop at full depth are counted out in the last columns."""
    columns = (
        Column("arm"),
        Column("meant to leave", ".0%"),
        Column("looping", ".1%"),
        Column("low", ".1%"),
        Column("high", ".1%"),
        Column("unfinished", ".1%"),
        Column("length", ".2f"),
        Column("agreement", ".1%"),
        Column("without loops", ".1%"),
    )
    rows: list[tuple[Cell, ...]] = []
    for name, front in {**({"full depth": full} if full else {}), **fronts}.items():
        for p in sorted({front.middle, len(front.points) - 1}):
            loops = within(front.interval(p, "looping"))
            looping = {prompt for one in front.points[p] for prompt in one["looping"]}
            values = [
                front.sample(p, measure).value for measure in ("unfinished", "length_ratio", "agreement")
            ]
            apart = front.sample(p, "agreement", without(looping)).value
            share = front.shares[p] if name != "full depth" else None
            cells = (loops.value, loops.low, loops.high, *values, apart)
            rows.append((name, share, *(cell if isfinite(cell) else None for cell in cells)))
    note = (
        "Looping: 16 tokens three times, or an end that repeats. Unfinished: a question whose answer did not end. "
        "Length: of the full model's. Without loops: agreement over the prompts whose replies do not loop."
    )
    return Table(f"{model}-degeneration", "texts that go wrong", columns, tuple(rows), note)


def without(prompts: Collection[str]) -> Chosen:
    """All prompts but these."""
    return lambda prompt: prompt not in prompts


def _reduction(model: str, fronts: Mapping[str, Front]) -> Table:
    columns = (
        Column("propagation"),
        Column("meant to leave", ".0%"),
        Column("as published", ".2f"),
        Column("as corrected", ".2f"),
        Column("blocks skipped", ".1%"),
    )
    rows: list[tuple[Cell, ...]] = []
    for name, front in fronts.items():
        for p, share in enumerate(front.shares):
            measures = ("reduction_published", "reduction_corrected", "blocks_skipped")
            values = [front.sample(p, measure).value for measure in measures]
            rows.append((name, share, *(value if isfinite(value) else None for value in values)))
    note = (
        "The paper's computational reduction factor. As published it counts a block too many as skipped and charges "
        "`project` other blocks' share; corrected: blocks that truly ran, at their own price. It has none for defer "
        "and verify."
    )
    return Table(f"{model}-reduction", "the paper's reduction factor", columns, tuple(rows), note)


def _heat_maps(model: str, fronts: Mapping[str, Front]) -> Iterator[HeatMap]:
    for name, front in fronts.items():
        one = front.points[front.middle][0]
        for number, (prompt, records) in enumerate(one["records"].items()):
            tokens = tuple(
                Token(str(raw["text"]), int(raw["depth"]), raw["gate"], bool(raw["agreed"]))
                for raw in records[:SHOWN]
            )
            title = f"{name}: {prompt}"
            yield HeatMap(f"{model}-text-{name}-{number}", title, int(one["blocks"]), tokens)
