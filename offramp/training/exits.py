"""Train exits on a frozen backbone (DYNAMAX): every gate learns whether its bridge's token would do.

A bridge with weights learns beside its gate to give the full model's distribution.

The backbone runs once a batch for all exits. What a gate never sees in use (padding, other documents) it does
not see here either. The recipe is the paper's where it states one; its saver's bug, which stored the first
exit's weights for all, has a test here.

Shapes: N positions, E exits.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from offramp.data.documents import Documents, Ids
from offramp.errors import DataError, UsageError
from offramp.exits.exit_set import ExitSet
from offramp.exits.store import ExitsInfo, check_target, save_exits
from offramp.models.base import Model
from offramp.models.checkpoint import fingerprint
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits_job import ExitsJob
from offramp.training.loop import Limits, Outcome, run
from offramp.training.metrics import BridgeMetrics, gate_metrics, threshold_for
from offramp.training.observe import Observation, observe
from offramp.training.progress import Callback, ignore
from offramp.training.windows import batches_of, cut, device_of

Metrics = dict[str, float | None]
"""By name; see `GateMetrics`, and `BridgeMetrics` for bridges with weights."""


@torch.no_grad()
def measure(
    model: Model, exits: ExitSet, data: Sequence[Ids], config: ExitTrainConfig
) -> tuple[list[Metrics], tuple[float, ...]]:
    """Each exit's metrics on held-out documents, and the threshold that keeps `config.precision` there."""
    learnt = exits.bridges_learn
    seen = _observe_all(model, exits, data, config, distil=learnt)
    values_EN = seen.gates_EN.sigmoid()
    gates = [gate_metrics(*parts) for parts in zip(values_EN, seen.labels_EN, seen.agreed_EN, strict=True)]
    found: list[Metrics] = [asdict(gate) for gate in gates]
    if learnt:
        bare = _observe_all(model, exits.without_bridges(), data, config, distil=True)
        found = [gate | asdict(bridge) for gate, bridge in zip(found, _gains(bare, seen), strict=True)]
    pairs = zip(values_EN, seen.labels_EN, strict=True)
    return found, tuple(threshold_for(values_N, label_N, config.precision) for values_N, label_N in pairs)


def _observe_all(
    model: Model, exits: ExitSet, data: Sequence[Ids], config: ExitTrainConfig, distil: bool
) -> Observation:
    """All documents as one observation, on the CPU."""
    batches = batches_of(cut(data, config.window), config.tokens_per_step, config.seed)
    seen = [observe(model, exits, rows, config, distil) for rows in batches]
    return Observation(
        torch.cat([part.gates_EN for part in seen], dim=1).cpu(),
        torch.cat([part.labels_EN for part in seen], dim=1).cpu(),
        torch.cat([part.agreed_EN for part in seen], dim=1).cpu(),
        torch.cat([part.kl_EN for part in seen if part.kl_EN is not None], dim=1).cpu() if distil else None,
    )


def _gains(bare: Observation, seen: Observation) -> list[BridgeMetrics]:
    """What each exit's bridge changed. Both observations hold divergences."""
    assert bare.kl_EN is not None and seen.kl_EN is not None
    means = (bare.agreed_EN.float().mean(1), seen.kl_EN.mean(1), bare.kl_EN.mean(1))
    return [BridgeMetrics(*map(float, parts)) for parts in zip(*means, strict=True)]


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
) -> tuple[Outcome, ExitsInfo | None]:
    """Train `exits` in place, on the model's device, and write the exits folder `out` when all is done.

    A stopped run is continued by the same call from the folder `.<name>.run` beside `out`. The info, with
    metrics on the held-out documents, is None while unfinished. revision: what people call the backbone.
    Raises ExitsError when `out` holds anything but exits, DataError when no window can be cut or an id is
    beyond the vocabulary, UsageError for a window beyond the model's context, for a label about another
    bridge's token and for a revision of more than 256 characters.
    """
    out = check_target(out)
    if config.window > model.config.context_length:
        raise UsageError(
            f"a window of {config.window} exceeds the model's {model.config.context_length} tokens"
        )
    _check_label(exits, config.label)
    _check_data(data, model.config.vocab_size)
    backbone = fingerprint(model)
    info = ExitsInfo(model.config.model_type, backbone, config.label, revision=revision)
    run_folder = out.with_name(f".{out.name}.run")
    model.requires_grad_(False).eval()
    exits.to(device_of(model), torch.float32).train()
    job = ExitsJob(model, exits, data, config, backbone)
    outcome = run(job, run_folder, limits or Limits(), callback)
    exits.eval()
    if not outcome.finished:
        return outcome, None
    info = _info(model, exits, data, config, info)
    save_exits(exits, info, out)
    shutil.rmtree(run_folder)
    return outcome, info


def _check_label(exits: ExitSet, label: str) -> None:
    """A bridge that learns would not be what the label `after_last_block` is about."""
    if exits.bridges_learn and label == "after_last_block":
        raise UsageError(
            f"the label {label} is about the token after the last block, which the bridge {exits.config.bridge} "
            "does not run: use the label exact, or the bridge none or last_block"
        )


def _check_data(data: Documents, vocabulary: int) -> None:
    """Raises DataError when there is too little of it, and when another tokenizer made it."""
    if not cut(data.training, 2) or not cut(data.held_out, 2):
        raise DataError(f"{data.source} is too short to train on and to measure with")
    largest = max(max(ids) for ids in (*data.training, *data.held_out) if len(ids))
    if largest >= vocabulary:
        raise DataError(
            f"the tokenizer makes id {largest} of {data.source}, but the model knows {vocabulary} ids only: they "
            "do not belong together"
        )


def _info(
    model: Model, exits: ExitSet, data: Documents, config: ExitTrainConfig, info: ExitsInfo
) -> ExitsInfo:
    metrics, thresholds = measure(model, exits, data.held_out, config)
    return replace(
        info,
        label_k=config.label_k,
        propagation=config.propagation,
        thresholds=thresholds,
        metrics={f"after{at}": found for at, found in zip(exits.after, metrics, strict=True)},
        data={
            "source": data.source,
            "training_tokens": sum(map(len, data.training)),
            "held_out_tokens": sum(map(len, data.held_out)),
            "recipe": asdict(config),
        },
    )
