"""What an evaluation says: every measure of every arm with its interval, and the difference that the exits make."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from offramp.engine.engine import Engine
from offramp.engine.request import Request
from offramp.evaluation.asking import Answer, Asked, Asking
from offramp.evaluation.bootstrap import Interval, Sample, difference, interval
from offramp.evaluation.evaluate import Evaluation, Item, judge
from offramp.evaluation.measures import loopers, measures_of, sample
from offramp.evaluation.replies import Reply
from offramp.evaluation.setting import Setting
from offramp.evaluation.tasks.base import ChoiceTask, Scored, Task

FLOOR = 0.05
"""An official task's score below which the full model cannot do the task, so that exits have nothing to lose."""
OF_BOTH = ("quality", "degeneration")
"""Kinds of measures that the full model has too; the others compare with it."""


@dataclass(frozen=True)
class Arm:
    """A setting and its answers, in the order of the items. base: the setting, as a request of any prompt."""

    name: str
    engine: Engine
    base: Request
    answers: Sequence[Answer]

    @property
    def setting(self) -> Setting:
        base = self.base
        return Setting(self.name, base.propagation, base.policy, base.thresholds, base.run_max, base.sampling)


@dataclass(frozen=True)
class Row:
    """A measure: of each arm (None: it has none), and exits minus full."""

    kind: str
    name: str
    arms: tuple[Interval | None, ...]
    difference: Interval | None = None


@dataclass(frozen=True)
class Summary:
    """rows: of all items. steady: the quality without the items where a reply of any arm loops; loops: how many those
    are. cut: prompts whose beginning did not fit. at_floor: the full model cannot do this official task. guessing: what
    blind guessing has; None where there is nothing to guess from."""

    task: str
    headline: str
    items: int
    arms: tuple[Arm, ...]
    rows: tuple[Row, ...]
    steady: tuple[Row, ...]
    loops: int
    cut: int
    at_floor: bool
    guessing: float | None


Table = tuple[str, str, tuple[Sample | None, ...]]
"""Kind and name of a measure, and its sample in each arm."""


def summarise(name: str, asking: Asking, items: Sequence[Asked], arms: Sequence[Arm]) -> Summary:
    """arms: the full model, then the model with exits where there is one."""
    task, looping = asking.task, set[str]()
    if asking.most:
        judged = _judged(asking, items, arms)
        looping = loopers(*judged)
        tables = _written(judged)
        steady = _written(judged, looping) if looping and len(looping) < len(items) else []
    else:
        tables, steady = _given(asking, items, arms), []
    rows = tuple(map(_row, tables))
    score = next(row.arms[0] for row in rows if row.name == task.headline)
    return Summary(
        task=name,
        headline=task.headline,
        items=len(items),
        arms=tuple(arms),
        rows=rows,
        steady=tuple(_row(table) for table in steady if table[0] == "quality"),
        loops=len(looping),
        cut=sum(item.cut > 0 for item in items),
        at_floor=task.official and score is not None and score.value < FLOOR,
        guessing=fmean(map(task.guessing, range(len(task)))) if isinstance(task, ChoiceTask) else None,
    )


def _row(table: Table) -> Row:
    kind, name, samples = table
    found = [item for item in samples if item is not None]
    both = difference(found[1], found[0]) if len(found) == 2 else None
    return Row(kind, name, tuple(None if item is None else interval(item) for item in samples), both)


def _judged(asking: Asking, items: Sequence[Asked], arms: Sequence[Arm]) -> list[Evaluation]:
    """Of written answers."""
    asked = [_item(asking, item) for item in items]
    full, *others = ([answer for answer in arm.answers if isinstance(answer, Reply)] for arm in arms)
    full = [replace(reply, prompt=item.prompt.id) for reply, item in zip(full, asked, strict=True)]
    found = [judge(arms[0].engine, arms[0].setting, asked, full)]
    for arm, replies in zip(arms[1:], others, strict=True):
        named = [replace(reply, prompt=item.prompt.id) for reply, item in zip(replies, asked, strict=True)]
        found.append(judge(arm.engine, arm.setting, asked, named, full))
    return found


def _item(asking: Asking, asked: Asked) -> Item:
    task, i = asking.task, asked.item

    def score(text: str) -> dict[str, float]:
        return task.score(i, text)  # type: ignore[attr-defined]  # of a task with written answers

    return Item(asking.prompted(asked), score, task.weight(i))


def _written(judged: Sequence[Evaluation], without: Collection[str] = ()) -> list[Table]:
    """By measure, the arms' samples; those of which nothing is known are left out."""
    tables: list[Table] = []
    for measure in measures_of(judged[-1]):
        samples = tuple(
            sample([one], measure, without) if measure.kind in OF_BOTH or one is not judged[0] else None
            for one in judged
        )
        known = tuple(item if item is not None and item.whole_SI.any() else None for item in samples)
        if any(item is not None for item in known):
            tables.append((measure.kind, measure.name, known))
    return tables


def _given(asking: Asking, items: Sequence[Asked], arms: Sequence[Arm]) -> list[Table]:
    """Of texts that were scored: the task's scores, depth, and how many tokens left. A text's first token is none
    of them: it always comes from full depth."""
    task, blocks = asking.task, len(arms[0].engine.model.blocks)
    scores = [[asking.scores(i, answer) for i, answer in enumerate(arm.answers)] for arm in arms]
    tables: list[Table] = [
        ("quality", name, tuple(_weighted(task, [score[name] for score in of_arm]) for of_arm in scores))
        for name in scores[0][0]
    ]
    if len(arms) == 2:
        depths = [_depths(answer) for answer in arms[1].answers]
        deep = Sample.of([[(float(sum(found)), float(len(found))) for found in depths]])
        left = Sample.of([[(float(sum(d < blocks for d in found)), float(len(found))) for found in depths]])
        tables += [
            ("compute", name, (None, table))
            for name, table in (("depth", deep), ("tokens_left", left))
            if table.whole_SI.any()
        ]
    return tables


def _weighted(task: Task, values: Sequence[float]) -> Sample:
    weights = [task.weight(i) for i in range(len(values))]
    return Sample.of([[(value * weight, weight) for value, weight in zip(values, weights, strict=True)]])


def _depths(answer: Answer) -> list[int]:
    """Of all tokens but the first of each text."""
    texts = [text for text in answer if isinstance(text, Scored)] if isinstance(answer, tuple) else []
    return [depth for text in texts for depth in text.depths[1:]]
