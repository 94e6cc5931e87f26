"""Exits learn from text; then the model writes with them, and they learn from what they heard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from offramp.data.documents import Documents
from offramp.errors import UsageError
from offramp.exits.exit_set import ExitSet
from offramp.exits.info import ExitsInfo
from offramp.exits.store import check_target, load_exits
from offramp.models.base import Block
from offramp.propagation.base import Propagation
from offramp.registry import find
from offramp.training.checkpoint import discard
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits import train_exits
from offramp.training.loop import Outcome
from offramp.training.observe import Watch, observe
from offramp.training.onpolicy.collect import collect
from offramp.training.onpolicy.config import OnPolicyConfig
from offramp.training.onpolicy.file import read_tapes, write_tapes
from offramp.training.onpolicy.listen import listen
from offramp.training.onpolicy.tape import Tapes
from offramp.training.recipe import Work
from offramp.training.windows import device_of

TEXT, TAPES = "text", "tapes.safetensors"


@dataclass(frozen=True)
class OnPolicyRun:
    """One run: its work, and by what it is carried out. recipe: as it is noted beside the exits."""

    work: Work
    config: ExitTrainConfig
    policy: OnPolicyConfig
    recipe: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """What the run keeps until it has ended: the exits after the text, and the tapes."""
        out = check_target(self.work.out)
        return out.with_name(f".{out.name}.on-policy")


def train_on_policy(run: OnPolicyRun, exits: ExitSet) -> tuple[Outcome, ExitsInfo | None]:
    """Train `exits` in place and write `run.work.out`; a stopped run is continued by the same call.

    Raises what `train_exits` and `collect` raise, and UsageError for a bridge that borrows the last block and for a
    propagation that cannot serve these blocks.
    """
    if any(item.bridge.borrows_last_block for item in exits):
        raise UsageError(
            "on-policy labels are about what the bridge itself makes of a hidden state, which last_block leaves to "
            "the model: use the bridge none, lens or block"
        )
    propagation = find("offramp.propagation", run.config.propagation, Propagation)()
    propagation.check([cast(Block, block).mixer for block in run.work.model.blocks], exits.after)
    outcome, info = _on_text(run, exits)
    if info is None:
        return outcome, None
    tapes = _tapes(run, exits, info.thresholds)
    exits.train()
    config = replace(run.config, window=max(run.config.window, tapes.longest))
    outcome, info = _train(run, exits, tapes, config, run.work.out, listen)
    if outcome.finished and run.work.workers.is_main:
        discard(run.folder)
    return outcome, info


def _train(
    run: OnPolicyRun, exits: ExitSet, data: Documents, config: ExitTrainConfig, out: Path, watch: Watch
) -> tuple[Outcome, ExitsInfo | None]:
    work = run.work
    return train_exits(
        work.model,
        exits,
        data,
        config,
        out,
        limits=work.limits,
        callback=work.callback,
        revision=work.revision,
        recipe=run.recipe,
        workers=work.workers,
        watch=watch,
    )


def _on_text(run: OnPolicyRun, exits: ExitSet) -> tuple[Outcome, ExitsInfo | None]:
    """The gates that will decide while the model writes: of an earlier call, or trained now."""
    folder = run.folder / TEXT
    if (folder / "exits.json").is_file():
        loaded, info = load_exits(folder, run.work.model, device=device_of(run.work.model))
        _refuse_other_settings(run, info)
        exits.load_state_dict(loaded.state_dict())
        return Outcome(run.policy.text_steps, run.policy.text_steps, "", folder), info
    config = replace(run.config, steps=run.policy.text_steps)
    return _train(run, exits, run.work.data, config, folder, observe)


def _refuse_other_settings(run: OnPolicyRun, info: ExitsInfo) -> None:
    same = info.data["recipe"] == json.loads(json.dumps(dict(run.recipe)))
    if not same or info.data["sha256"] != run.work.data.sha256():
        raise UsageError(
            f"{run.folder} holds a run with other settings or other data: resume it with its own, remove it, or "
            "name another folder"
        )


def _tapes(run: OnPolicyRun, exits: ExitSet, suggested: tuple[float, ...]) -> Tapes:
    """Those of an earlier call, or made now, by the main worker."""
    path, work = run.folder / TAPES, run.work
    if work.workers.is_main and not path.is_file():
        threshold = run.policy.threshold
        thresholds = suggested if threshold is None else (threshold,)
        propagation, seed = run.config.propagation, run.config.seed
        made = collect(work.model, exits, work.data, run.policy, propagation, thresholds, seed, work.say)
        write_tapes(made, path)
    work.workers.barrier()
    return read_tapes(path, work.data.source, len(exits))
