"""Run an arm free: under one propagation and policy, with a threshold for each share that is to leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offramp.evaluation.evaluate import evaluate
from offramp.evaluation.setting import Setting
from offramp.study.measured import compact
from offramp.study.work.context import Context, engine, text_of


def free(context: Context) -> dict[str, Any]:
    """settings: model, arm, propagation, policy, score (whose thresholds: of an arm, or a policy), shares."""
    settings = context.settings
    checkpoint = context.checkpoint(settings["arm"])
    assert checkpoint.exits is not None
    asked, answers = context.items(text_of(checkpoint)), context.full()
    runner = engine(checkpoint, tuple(checkpoint.exits), asked)
    points = []
    for share in settings["shares"]:
        thresholds = _thresholds(context, share)
        setting = Setting(
            context.job.name, settings["propagation"], settings["policy"], thresholds=thresholds
        )
        found = evaluate(runner, setting, asked, answers)
        points.append({"share": share, "thresholds": thresholds, "measured": compact(found)})
    return {"points": points}


def _thresholds(context: Context, share: float) -> tuple[float, ...]:
    """One for all exits; `random` leaves at each as often as the gate does."""
    at = tuned(context.needed, context.settings["score"])["points"][f"{share:g}"]
    if context.settings["policy"] == "random":
        return tuple(1 - rate for rate in at["rates"])
    return (at["bar"],)


def tuned(needed: Mapping[str, Any], score: str) -> Mapping[str, Any]:
    """What tuning says of an arm's gates or of a policy."""
    [found] = [each["tuned"][score] for each in needed.values() if score in each.get("tuned", {})]
    return found
