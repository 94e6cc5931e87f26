"""Train exits on a frozen backbone (DYNAMAX): every gate learns whether its bridge's token would do.

A bridge with weights learns beside its gate to give the full model's distribution.

The backbone runs once a batch for all exits. What a gate never sees in use (padding, other documents) it does
not see here either. The recipe is the paper's where it states one; its saver's bug, which stored the first
exit's weights for all, has a test here.

Shapes: N positions, E exits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offramp.data.documents import Documents, Ids
from offramp.errors import DataError, UsageError
from offramp.exits.exit_set import ExitSet
from offramp.exits.store import ExitsInfo, check_target, save_exits
from offramp.models.base import Model
from offramp.models.checkpoint import fingerprint
from offramp.training.checkpoint import discard
from offramp.training.distributed import ALONE, Workers
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits_job import ExitsJob
from offramp.training.frequency import check_draft_vocabulary
from offramp.training.loop import Limits, Outcome, run
from offramp.training.metrics import BridgeMetrics, gate_metrics, threshold_for
from offramp.training.observe import Observation, Watch, joined, observe
from offramp.training.progress import Callback, ignore
from offramp.training.windows import batches_of, cut, device_of

Metrics = dict[str, float | None]
"""By name; see `GateMetrics`, and `BridgeMetrics` for bridges with weights."""


@torch.no_grad()
def measure(
    model: Model, exits: ExitSet, data: Sequence[Ids], config: ExitTrainConfig, watch: Watch = observe
) -> tuple[list[Metrics], tuple[float, ...]]:
    """Each exit's metrics on held-out documents, and the threshold that keeps `config.precision` there."""
    learnt = exits.bridges_learn
    batches = batches_of(cut(data, config.window), config.tokens_per_step, config.seed)
    seen = joined([watch(model, exits, rows, config, learnt) for rows in batches])
    found: list[Metrics] = [
        asdict(gate_metrics(one.gate_N.sigmoid(), one.label_N, one.agreed_N)) for one in seen.each()
    ]
    if learnt:
        without = exits.without_bridges()
        bare = joined([watch(model, without, rows, config, True) for rows in batches])
        found = [gate | asdict(bridge) for gate, bridge in zip(found, _gains(bare, seen), strict=True)]
    return found, tuple(
        threshold_for(one.gate_N.sigmoid(), one.label_N, config.precision) for one in seen.each()
    )


def _gains(bare: Observation, seen: Observation) -> list[BridgeMetrics]:
    """What each exit's bridge changed. Both observations hold divergences."""
    return [
        BridgeMetrics(_mean(before.agreed_N), _mean(after.kl_N), _mean(before.kl_N))
        for before, after in zip(bare.each(), seen.each(), strict=True)
    ]


def _mean(values_N: Tensor | None) -> float | None:
    assert values_N is not None, "observed without divergences"
    return float(values_N.float().mean()) if len(values_N) else None


def train_exits(
    model: Model,
    exits: ExitSet,
    data: Documents,
    config: ExitTrainConfig,
    out: Path,
    *,
    limits: Limits | None = None,
    callback: Callback = ignore,
    revision: str = "",
    recipe: Mapping[str, Any] | None = None,
    workers: Workers = ALONE,
    watch: Watch = observe,
) -> tuple[Outcome, ExitsInfo | None]:
    """Train `exits` in place, on the model's device, and write the exits folder `out` when all is done.

    A stopped run is continued by the same call from the folder `.<name>.run` beside `out`. The info, with
    metrics on the held-out documents, is None while unfinished. revision: what people call the backbone.
    recipe: what is noted beside the exits as their recipe; the config by itself if None. workers: those that train
    together; the main one writes. watch: what is made of `data`'s items.
    Raises ExitsError when `out` holds anything but exits, DataError when no window can be cut or an id is
    beyond the vocabulary, UsageError for a window beyond the model's context, for a label about another
    bridge's token, for a short list of drafts where nothing is judged and for a revision of more than 256 characters.
    """
    out = check_target(out)
    if config.window > model.config.context_length:
        raise UsageError(
            f"a window of {config.window} exceeds the model's {model.config.context_length} tokens"
        )
    _check_label(exits, config.label)
    check_draft_vocabulary(exits.config.draft_vocabulary, config.propagation, model.config.vocab_size)
    check_data(data, model.config.vocab_size)
    backbone = fingerprint(model)
    info = ExitsInfo(model.config.model_type, backbone, config.label, revision=revision)
    run_folder = out.with_name(f".{out.name}.run")
    model.requires_grad_(False).eval()
    exits.to(device_of(model), torch.float32).train()
    job = ExitsJob(model, exits, data, config, backbone, workers, watch)
    outcome = run(job, run_folder, limits or Limits(), callback, workers)
    exits.eval()
    if not outcome.finished:
        return outcome, None
    metrics, thresholds = measure(model, exits, data.held_out, config, watch)
    info = replace(
        info,
        label_k=config.label_k,
        propagation=config.propagation,
        thresholds=thresholds,
        metrics={f"after{at}": found for at, found in zip(exits.after, metrics, strict=True)},
        data=_about(data, recipe or asdict(config)),
    )
    if workers.is_main:
        save_exits(exits, info, out)
        discard(run_folder)
    workers.barrier()
    return outcome, info


def _check_label(exits: ExitSet, label: str) -> None:
    """A bridge that learns would not be what the label `after_last_block` is about."""
    if exits.bridges_learn and label == "after_last_block":
        raise UsageError(
            f"the label {label} is about the token after the last block, which the bridge {exits.config.bridge} "
            "does not run: use the label exact, or the bridge none or last_block"
        )


def check_data(data: Documents, vocabulary: int) -> None:
    """Raises DataError when there is too little of it, and when another tokenizer made it."""
    if not all(any(len(ids) > 1 for ids in part) for part in (data.training, data.held_out)):
        raise DataError(f"{data.source} is too short to train on and to measure with")
    largest = max(max(ids) for ids in (*data.training, *data.held_out) if len(ids))
    if largest >= vocabulary:
        raise DataError(
            f"the tokenizer makes id {largest} of {data.source}, but the model knows {vocabulary} ids only: they "
            "do not belong together"
        )


def _about(data: Documents, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What is noted of the data, and of the recipe."""
    return {
        "source": data.source,
        "sha256": data.sha256(),
        "training_tokens": sum(map(len, data.training)),
        "held_out_tokens": sum(map(len, data.held_out)),
        "recipe": recipe,
    }
