"""Carry out one recipe by its name: exits of another kind of training, or a model made to leave early."""

from __future__ import annotations

from typing import Any

from offramp.errors import OfframpError
from offramp.study.work.context import Context, text_of
from offramp.study.work.train import trained
from offramp.training.recipe import Work, find_recipe


def recipe(context: Context) -> dict[str, Any]:
    """settings: model, recipe, seed, training_tokens, changes; arm: what to call the exits, or "" for a model."""
    checkpoint, settings = context.checkpoint(), context.settings
    model, arm = checkpoint.model, settings["arm"]
    chosen = find_recipe(settings["recipe"], model.config).changed(settings["changes"])
    chosen.check(model.config)
    out = context.folder("exits", arm) if arm else context.folder("models", "model")
    data = context.documents(text_of(checkpoint))
    outcome = chosen.train(Work(context.model_folder(), model, data, out)).outcome
    if not outcome.finished:
        raise OfframpError(outcome.message())
    if not arm:
        return {"model": context.relative(out)}
    return trained(context, {arm: context.exits(out)})
