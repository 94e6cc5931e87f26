"""The full model's replies to all prompts: what every other run of the model is held against."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from offramp.evaluation.evaluate import evaluate, judge
from offramp.evaluation.replies import replies
from offramp.evaluation.setting import FULL
from offramp.models.pruned import first_and_last, pruned
from offramp.study.measured import compact
from offramp.study.work.context import Context, engine, text_of


def full(context: Context) -> dict[str, Any]:
    """settings: model."""
    checkpoint = context.checkpoint()
    asked = context.items(text_of(checkpoint))
    runner = engine(checkpoint, (), asked)
    found = replies(runner, FULL, [item.prompt for item in asked])
    measured = compact(judge(runner, FULL, asked, found, found))
    return {"replies": [reply.to_json() for reply in found], "points": [{"measured": measured}]}


def dropping(context: Context) -> dict[str, Any]:
    """Static layer dropping. settings: model, dropped."""
    checkpoint = context.checkpoint()
    whole, blocks = checkpoint.model, checkpoint.model.config.num_blocks
    asked, answers = context.items(text_of(checkpoint)), context.full()
    points = []
    for count in context.settings["dropped"]:
        kept = first_and_last(blocks, count)
        runner = engine(replace(checkpoint, model=pruned(whole, kept)), (), asked)
        found = evaluate(runner, FULL, asked, answers, whole)
        points.append({"share": count / blocks, "dropped": count, "measured": compact(found)})
    return {"points": points}
