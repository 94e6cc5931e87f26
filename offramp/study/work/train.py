"""Train the exit sets of several arms, all on the same batches."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from offramp.exits.exit_set import ExitSet, build_exits
from offramp.exits.info import ExitsInfo
from offramp.exits.store import save_exits
from offramp.models.checkpoint import fingerprint
from offramp.study.arms import exit_recipe
from offramp.study.together import Student, train_together
from offramp.study.work.context import Context, text_of
from offramp.training.loop import Limits

SAVE_SECONDS = 60.0


def train(context: Context) -> dict[str, Any]:
    """settings: model, arms, seed, training_tokens, and changes: fields of the recipes."""
    checkpoint, settings = context.checkpoint(), context.settings
    model, data = checkpoint.model, context.documents(text_of(checkpoint))
    changes = {**settings["changes"], "seed": settings["seed"]}
    recipes = {arm: exit_recipe(arm, model.config).changed(changes) for arm in settings["arms"]}
    blocks, seed = model.config.num_blocks, settings["seed"]
    students = [
        Student(arm, build_exits(recipe.exits, blocks, seed), recipe.training)
        for arm, recipe in recipes.items()
    ]
    backbone, run_folder = fingerprint(model), context.folder("runs")
    train_together(model, students, data, backbone, run_folder, Limits(checkpoint_seconds=SAVE_SECONDS))
    for student in students:
        config = student.config
        about = {"recipe": recipes[student.name].as_json(), "sha256": data.sha256()}
        info = ExitsInfo(
            model.config.model_type,
            backbone,
            config.label,
            label_k=config.label_k,
            propagation=config.propagation,
            data=about,
        )
        save_exits(student.exits, info, context.folder("exits", student.name))
    shutil.rmtree(run_folder, ignore_errors=True)
    return trained(context, {student.name: student.exits for student in students})


def trained(context: Context, sets: Mapping[str, ExitSet]) -> dict[str, Any]:
    """Where the sets are, and what one of their gates and bridges has of weights."""
    return {
        "arms": {arm: context.relative(context.folder("exits", arm)) for arm in sets},
        "parameters": {
            arm: {
                "gate": sum(p.numel() for p in next(iter(exits)).gate.parameters()),
                "bridge": sum(p.numel() for p in next(iter(exits)).bridge.parameters()),
            }
            for arm, exits in sets.items()
        },
    }
