"""What `verify` gains: the full model's own text, from fewer reads of its weights; and wall clock, by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from offramp.evaluation.setting import FULL
from offramp.evaluation.wallclock import CONTROL
from offramp.study.arms import BRIDGES, REFERENCE
from offramp.study.report.parts import Cell, Column, Part, Section, Table
from offramp.study.report.runs import Arm, Front, Runs, within

SETS = {
    "frozen": Arm("gates", REFERENCE, "verify"),
    **{arm: Arm("bridges", arm, "verify") for arm in BRIDGES},
    "layerskip": Arm("joint", REFERENCE, "verify"),
}


def verified(runs: Runs, model: str) -> Iterator[Section]:
    """Nothing, where it has not run."""
    fronts = {name: found for name, arm in SETS.items() if (found := runs.front(model, arm))}
    parts: list[Part] = [_gains(model, fronts)] if fronts else []
    if (clock := runs.one(f"{model}/clock")) is not None:
        parts.append(_clock(model, clock["ratios"], clock["prompts"]))
    if parts:
        text = (
            "Under verify an exit's token is a draft, and the last segment judges it: the text is the full model's "
            "own, whatever the gates say."
        )
        yield Section(f"{model}-verify", f"{model}: what verify gains", text, tuple(parts))


def _gains(model: str, fronts: Mapping[str, Front]) -> Table:
    columns = (
        Column("exits"),
        Column("meant to leave", ".0%"),
        Column("replies equal", ".1%"),
        Column("drafts accepted", ".1%"),
        Column("low", ".1%"),
        Column("high", ".1%"),
        Column("weight reads", ".1%"),
        Column("low", ".1%"),
        Column("high", ".1%"),
        Column("bytes", ".1%"),
        Column("FLOPs", ".1%"),
    )
    rows: list[tuple[Cell, ...]] = []
    for name, front in fronts.items():
        for p, share in enumerate(front.shares):
            accepted, reads = within(front.interval(p, "accepted")), front.interval(p, "weight_reads")
            cells = [accepted.value, accepted.low, accepted.high, reads.value, reads.low, reads.high]
            rest = [front.sample(p, measure).value for measure in ("bytes", "flops")]
            equal = front.sample(p, "identical").value
            rows.append((name, share, equal, *(_finite(cell) for cell in (*cells, *rest))))
    note = (
        "Weight reads: how often blocks' weights are read, of full depth's: what takes time where a machine waits for "
        "memory. Bytes count gates, bridges, heads and states too. Rejected drafts cost FLOPs."
    )
    return Table(f"{model}-verify-gains", "drafts and reads", columns, tuple(rows), note)


def _clock(model: str, ratios: Mapping[str, float], prompts: int) -> Table:
    first = [FULL.name, CONTROL]
    order = [*first, *(name for name in ratios if name not in first)]
    rows = [(name, 1 / ratios[name]) for name in order if name in ratios]
    note = (
        f"Full depth's seconds over each setting's, median of {prompts} prompts, one at a time, interleaved in one run "
        f"with nothing beside it. '{CONTROL}' is the control: what is no further from 1 than it says nothing. In eager "
        "PyTorch models this small are bound by dispatch, not by weights."
    )
    return Table(
        f"{model}-clock",
        "wall clock, against its own control",
        (Column("setting"), Column("speed", ".2f")),
        tuple(rows),
        note,
    )


def _finite(value: float) -> float | None:
    return value if value == value else None
