"""TruthfulQA, multiple choice with one right answer."""

from __future__ import annotations

from collections.abc import Sequence

from offramp.evaluation.tasks._choices import accuracy
from offramp.evaluation.tasks._truthfulqa import PresetChoices
from offramp.evaluation.tasks.base import Scored


class TruthfulqaMC1(PresetChoices):
    """Is the likeliest choice the true one? TruthfulQA's mc_task.json, or the hub's rows."""

    headline, field = "acc", "mc1_targets"

    def score(self, i: int, scored: Sequence[Scored]) -> dict[str, float]:
        return {"acc": accuracy(scored, self.items[i].right)}
