"""`offramp train` and `offramp pretrain`: run, watch, and say in the end what came of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from offramp.cli.data_options import Data
from offramp.cli.failures import INTERRUPTED
from offramp.cli.inspection import metrics_table
from offramp.cli.options import Where
from offramp.cli.progress import training_bar
from offramp.cli.threads import fix_threads
from offramp.cli.train_options import Learning, Shape
from offramp.engine.load import device_named
from offramp.errors import CheckpointError, UsageError
from offramp.models.base import ModelConfig
from offramp.models.families import family_for, model_types
from offramp.models.folder import local_folder, read_config
from offramp.models.unsupported import refuse_features
from offramp.training.distributed import Workers, workers
from offramp.training.gate_sizes import equal_bottleneck
from offramp.training.loop import Limits, Outcome
from offramp.training.progress import Callback, ignore
from offramp.training.recipe import Done, ExitRecipe, Recipe, Work, find_recipe
from offramp.training.standard import standard
from offramp.training.tracking import tracked
from offramp.zoo import twins
from offramp.zoo.bundled import load, resolve

RUNS = Path("runs")
"""Where trackers that keep files put them, as is their custom."""


@dataclass(frozen=True)
class Asked:
    """What the user typed."""

    model: str
    data: Data
    out: Path | None
    shape: Shape
    learning: Learning
    where: Where
    track: str | None = None

    def check_out(self) -> None:
        """Raises UsageError where nothing was said and the model is in no folder to write to."""
        if self.out is None and not Path(self.model).is_dir():
            raise UsageError(
                f"{self.model} is no local folder to keep the exits in: say where with --out DIR."
            )


def train_by_recipe(asked: Asked, dry_run: bool) -> int:
    """Carry out the recipe that was asked for, show what was measured on stdout, return the exit code."""
    asked.where.check_trains()
    fix_threads(asked.where.threads)
    asked.check_out()  # before a large model is fetched; a mistake in the recipe is said before it is read
    config = _config_of(asked.model)
    recipe = chosen(asked, config)
    team = workers(device_named(asked.where.device))
    work = _work(asked, recipe, team)
    if team.is_main:
        print(f"recipe {json.dumps(recipe.as_json())}", file=sys.stderr)
    if dry_run:
        show(_pairs(recipe.estimate(work)))
        return 0
    with _watched(asked, recipe, work, team) as callback:
        done = recipe.train(replace(work, callback=callback))
    if team.is_main:
        _tell(recipe, done, work.out)
        return ended(done.outcome)
    return INTERRUPTED if done.outcome.stopped == "interrupted" else 0


def chosen(asked: Asked, model: ModelConfig) -> Recipe:
    """The recipe of that name, or the standard one, with what was asked for otherwise. Raises UsageError."""
    name, size = asked.learning.recipe, asked.shape.size
    recipe = standard(model) if name is None else find_recipe(name, model)
    recipe = recipe.changed(asked.shape.given() | asked.learning.given(model.context_length))
    if size is not None:
        if not isinstance(recipe, ExitRecipe):
            raise UsageError(f"the recipe {recipe.name} makes no gates that could be of a size")
        recipe = recipe.changed({"bottleneck": equal_bottleneck(recipe.exits.gate, model.hidden_size, size)})
    recipe.check(model)
    return recipe


def _config_of(model: str) -> ModelConfig:
    """Of a checkpoint whose weights have not been read."""
    raw = read_config(local_folder(resolve(model)))
    refuse_features(raw, model_types())
    return family_for(raw["model_type"]).config_from(raw)


def _work(asked: Asked, recipe: Recipe, team: Workers) -> Work:
    """The model and the documents, read."""
    checkpoint = load(asked.model, "none", dtype=asked.where.dtype, device=asked.where.device)
    if checkpoint.text is None:
        raise CheckpointError(
            f"{checkpoint.folder} has no tokenizer.json, so it cannot read {asked.data.data}."
        )
    return Work(
        folder=checkpoint.folder,
        model=checkpoint.model,
        data=asked.data.load(checkpoint.text.encode, seed=recipe.seed),
        out=_out(asked, recipe),
        revision=_known_as(asked.model),
        workers=team,
        say=_remark if team.is_main else _nothing,
    )


def _out(asked: Asked, recipe: Recipe) -> Path:
    if asked.out is not None:
        return asked.out
    if not isinstance(recipe, ExitRecipe):
        raise UsageError(f"the recipe {recipe.name} makes a new checkpoint: say where with --out DIR.")
    if asked.learning.recipe is not None:
        return Path(asked.model) / "exits" / recipe.name
    exits = recipe.exits
    return (
        Path(asked.model)
        / "exits"
        / (exits.gate if exits.bridge == "none" else f"{exits.gate}-{exits.bridge}")
    )


@contextmanager
def _watched(asked: Asked, recipe: Recipe, work: Work, team: Workers) -> Iterator[Callback]:
    """Shown, and tracked where that was asked for, by the main worker."""
    if not team.is_main:
        yield ignore
        return
    with training_bar(f"training {recipe.name}") as bar:
        if asked.track is None:
            yield bar
            return
        with tracked(asked.track, RUNS / work.out.name, recipe.as_json(), bar) as callback:
            yield callback


def _tell(recipe: Recipe, done: Done, out: Path) -> None:
    if done.metrics is None:
        return
    table = metrics_table(out.name, done.metrics)
    table.title = f"{out.name}: {recipe.measured}"
    show(table)
    print(f"written to {out}", file=sys.stderr)
    if recipe.makes_model:
        print(
            f"its exits need no gates: offramp generate {out} --exits untrained --policy confidence; or train some: "
            f"offramp train {out} --data ...",
            file=sys.stderr,
        )


def show(table: Table) -> None:
    Console(highlight=False, markup=False).print(table)


def _pairs(rows: list[tuple[str, str]]) -> Table:
    table = Table(title="what it would take", show_header=False)
    for row in rows:
        table.add_row(*row)
    return table


def _remark(text: str) -> None:
    print(text, file=sys.stderr)


def _nothing(text: str) -> None:
    """Of a worker that is not the main one."""


def pretrain_twin(
    twin: str, corpus: Path, out: Path, tokens: int | None, max_seconds: float | None, where: Where
) -> int:
    """Pretrain a bundled twin and return the exit code."""
    where.check_trains()
    device, limits = device_named(where.device), Limits(max_seconds=max_seconds)
    config = replace(twins.RECIPE, precision=where.dtype)
    if tokens is not None:
        config = replace(config, tokens=tokens)
    with training_bar(twin) as report:
        outcome = twins.run(twin, corpus, out, device, config=config, limits=limits, callback=report)
    return ended(outcome)


def ended(outcome: Outcome) -> int:
    """Say how a run ended. One that was interrupted has saved itself, and is no success."""
    print(outcome.message(), file=sys.stderr)
    return INTERRUPTED if outcome.stopped == "interrupted" else 0


def _known_as(model: str) -> str:
    """What other people may call the backbone: a hub id as it is, of a folder here its own name.

    `models/llama` reads like a hub id, and would be taken for one in what is pushed.
    """
    return Path(os.path.abspath(model)).name if Path(model).exists() else model
