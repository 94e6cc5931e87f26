"""An evaluation's summary as a table for people, and as JSON for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

from offramp.cli.eval_summary import Row, Summary
from offramp.engine.request import Request
from offramp.evaluation.bootstrap import Interval
from offramp.evaluation.setting import Setting

NAME, COLUMN = 20, 26
FEW = 30
"""Questions, below which a bootstrap has little to draw from."""
ARMS = ("full", "exits")
NESTED = ("arms", "rows", "steady")


def setting_name(base: Request) -> str:
    """What a setting is called in tables. base: the setting, as a request of any prompt."""
    if base.certificate is not None:
        return f"{base.propagation}, {base.certificate.metric} risk {base.certificate.risk:g}"
    numbers = [f"{edge(base.thresholds):.2f}" for edge in (min, max) if base.thresholds]
    return f"{base.propagation}, {base.policy}" + (
        f" > {'..'.join(dict.fromkeys(numbers))}" if numbers else ""
    )


def as_text(summary: Summary, model: str) -> str:
    """The table, measures that never mix apart, and what a reader should know of it."""
    return "".join(f"{line.rstrip()}\n" for line in _lines(summary, model))


def _lines(summary: Summary, model: str) -> Iterator[str]:
    yield f"{summary.task} · {summary.items:,} questions · {model} · values with 95 % intervals"
    yield ""
    columns = [*(arm.name for arm in summary.arms), "exits - full"][: 3 if len(summary.arms) > 1 else 1]
    yield f"{'':{NAME}}  " + "  ".join(f"{name:{COLUMN}}" for name in columns)
    for kind, rows in groupby(summary.rows, key=lambda row: row.kind):
        yield kind
        yield from map(_line, rows)
    if summary.steady:
        yield f"quality without {summary.loops} questions where a reply loops"
        yield from map(_line, summary.steady)
    yield from (f"note: {note}" for note in _notes(summary))


def _line(row: Row) -> str:
    cells = [_cell(found) for found in row.arms]
    if row.difference is not None:
        verdict = "  within noise" if row.difference.around_zero else ""
        cells.append(_cell(row.difference, sign="+") + verdict)
    return f"  {row.name:{NAME}}" + "  ".join(f"{cell:{COLUMN}}" for cell in cells)


def _cell(found: Interval | None, sign: str = "") -> str:
    if found is None or math.isnan(found.value):
        return ""
    if math.isnan(found.low):
        return f"{found.value:{sign}.3f} [one question]"
    return f"{found.value:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def _notes(summary: Summary) -> Iterator[str]:
    if summary.at_floor:
        yield (
            f"at floor: the full model itself has less than 5 % {summary.headline} here, so this task says nothing "
            "about exits."
        )
    elif summary.guessing and (low := _score(summary)) is not None and low <= summary.guessing:
        yield (
            f"the full model is not beyond blind guessing, which has {summary.guessing:.3f}: what exits change here "
            "says little."
        )
    if summary.loops:
        yield f"{summary.loops} of {summary.items} questions have a reply that loops."
    if summary.items < FEW:
        yield f"with {summary.items} questions intervals are rough; {FEW} or more tell something."
    if summary.cut:
        yield f"{summary.cut} of {summary.items} prompts were too long and lost their beginning."


def _score(summary: Summary) -> float | None:
    """The lower end of the full model's headline."""
    found = next(row.arms[0] for row in summary.rows if row.name == summary.headline)
    return None if found is None else found.low


def as_json(summary: Summary, model: str) -> str:
    """One object. By arm, "full" and "exits", an interval {value, low, high}; null is what nobody knows."""
    arms = dict(zip(ARMS, summary.arms, strict=False))
    shown = {"model": model} | {name: value for name, value in vars(summary).items() if name not in NESTED}
    shown["arms"] = {name: _setting(arm.setting) for name, arm in arms.items()}
    for rows in ("rows", "steady"):
        shown[rows] = [_plain(row) for row in getattr(summary, rows)]
    return json.dumps(shown, ensure_ascii=False, allow_nan=False)


def _setting(setting: Setting) -> dict[str, Any]:
    """Without the logits processor, which is code and no option of the command line."""
    sampling = {name: value for name, value in vars(setting.sampling).items() if name != "processor"}
    return vars(setting) | {"sampling": sampling}


def _plain(row: Row) -> dict[str, Any]:
    values = dict(zip(ARMS, map(_numbers, row.arms), strict=False))
    return {"kind": row.kind, "name": row.name, **values, "difference": _numbers(row.difference)}


def _numbers(found: Interval | None) -> dict[str, float | None] | None:
    if found is None or math.isnan(found.value):
        return None
    return {name: None if math.isnan(value) else value for name, value in asdict(found).items()}
