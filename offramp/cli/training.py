"""`offramp train` and `offramp pretrain`: run, watch, and say in the end what came of it."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from offramp.cli.failures import INTERRUPTED
from offramp.cli.inspection import metrics_table
from offramp.cli.options import Where
from offramp.cli.progress import training_bar
from offramp.cli.train_options import Recipe, Shape
from offramp.data.documents import load_documents
from offramp.engine.load import Checkpoint, device_named
from offramp.errors import CheckpointError, UsageError
from offramp.exits.base import BridgeConfig, ExitConfig
from offramp.exits.bridges.block import OF_GATE
from offramp.exits.exit_set import build_exits
from offramp.exits.positions import default_positions
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits import train_exits
from offramp.training.loop import Limits, Outcome
from offramp.zoo import twins
from offramp.zoo.bundled import load


def train_exit_set(
    model: str, data: Path, out: Path | None, shape: Shape, recipe: Recipe, where: Where
) -> int:
    """Train one exit set, show its metrics on stdout, return the exit code."""
    folder = out or _default_out(model, shape)
    _config(recipe, recipe.length)  # a mistake in it is said before a large model is read
    bridge = _bridge_config(shape)
    checkpoint = load(model, "none", dtype=where.dtype, device=where.device)
    config = _config(recipe, min(recipe.length, checkpoint.model.config.context_length))
    if checkpoint.text is None:
        raise CheckpointError(f"{checkpoint.folder} has no tokenizer.json, so it cannot read {data}.")
    exits = build_exits(
        _exit_config(checkpoint, shape, bridge), checkpoint.model.config.num_blocks, recipe.seed
    )
    documents = load_documents(data, checkpoint.text.encode, seed=recipe.seed)
    with training_bar("training exits") as report:
        outcome, info = train_exits(
            checkpoint.model, exits, documents, config, folder, callback=report, revision=_known_as(model)
        )
    if info is not None:
        Console(highlight=False, markup=False).print(metrics_table(folder.name, info.metrics))
        print(f"written to {folder}", file=sys.stderr)
    return ended(outcome)


def pretrain_twin(
    twin: str, corpus: Path, out: Path, tokens: int | None, max_seconds: float | None, where: Where
) -> int:
    """Pretrain a bundled twin and return the exit code."""
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


def _default_out(model: str, shape: Shape) -> Path:
    """In the checkpoint's own folder. Raises UsageError where there is none to write to."""
    if not Path(model).is_dir():
        raise UsageError(f"{model} is no local folder to keep the exits in: say where with --out DIR.")
    return Path(model) / "exits" / (shape.gate if shape.bridge == "none" else f"{shape.gate}-{shape.bridge}")


def _config(recipe: Recipe, window: int) -> ExitTrainConfig:
    """k says something of the two topk labels only."""
    return ExitTrainConfig(
        label=recipe.label,
        label_k=recipe.label_k if recipe.label.endswith("topk") else 1,
        steps=recipe.steps,
        tokens_per_step=recipe.tokens_per_step,
        window=window,
        rate=recipe.lr,
        seed=recipe.seed,
    )


def _bridge_config(shape: Shape) -> BridgeConfig:
    """Raises UsageError for a trunk of the bridge's own that is not to be one."""
    own, default = BridgeConfig(shape.bridge_rank, shape.bridge_width, shape.bridge_mixer), BridgeConfig()
    if not shape.share_trunk:
        return own
    if (own.width, own.mixer) != (default.width, default.mixer):
        raise UsageError(
            "--share-trunk makes the bridge read the gate's trunk, which --gate and --bottleneck shape: "
            "leave out --bridge-width and --bridge-mixer, or --share-trunk"
        )
    return replace(own, mixer=OF_GATE)


def _exit_config(checkpoint: Checkpoint, shape: Shape, bridge: BridgeConfig) -> ExitConfig:
    config = checkpoint.model.config
    return ExitConfig(
        gate=shape.gate,
        bridge=shape.bridge,
        after=shape.exits_at or default_positions(config.num_blocks),
        hidden_size=config.hidden_size,
        norm_eps=config.norm_eps,
        bottleneck=shape.bottleneck or None,
        bridge_config=bridge,
    )
