"""Train a backbone to be left early, and say what each depth is then worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from offramp.data.documents import Documents, Ids
from offramp.exits.labels import choice
from offramp.exits.positions import default_positions
from offramp.models.base import Model
from offramp.models.checkpoint import fingerprint
from offramp.training.checkpoint import discard
from offramp.training.distributed import ALONE, Workers
from offramp.training.exits import check_data
from offramp.training.joint.config import JointConfig
from offramp.training.joint.exit_loss import summed_nats
from offramp.training.joint.job import JointJob
from offramp.training.joint.lora import add_lora
from offramp.training.joint.result import check_new, write_result
from offramp.training.loop import Limits, Outcome, run
from offramp.training.progress import Callback, ignore
from offramp.training.windows import batches_of, cut, device_of, padded, real

Measured = Mapping[str, Mapping[str, float | None]]
"""By exit ("after8"), by name."""


def train_joint(
    folder: Path,
    model: Model,
    data: Documents,
    config: JointConfig,
    out: Path,
    *,
    limits: Limits | None = None,
    callback: Callback = ignore,
    recipe: Mapping[str, Any],
    workers: Workers = ALONE,
) -> tuple[Outcome, Measured | None]:
    """Train `model`, read from `folder`, in place and in float32; write it to `out` when all is done.

    A stopped run is continued by the same call from the folder `.<name>.run` beside `out`. Measured, on held-out
    documents and None while unfinished: nats a token and agreement after some of the blocks, and at full depth.
    recipe: what recipe.json will say. Raises CheckpointError where something is at `out`, UsageError for LoRA targets
    that there are not, DataError for too little data and for that of another tokenizer.
    """
    out = check_new(out)
    check_data(data, model.config.vocab_size)
    backbone = fingerprint(model)
    model.float().requires_grad_(True).train()
    if config.lora_rank:
        torch.manual_seed(config.seed)  # peft draws its first weights from there
        add_lora(model, config)
    job = JointJob(model, data, config, backbone, workers)
    run_folder = out.with_name(f".{out.name}.run")
    outcome = run(job, run_folder, limits or Limits(), callback, workers)
    model.eval()
    if not outcome.finished:
        return outcome, None
    if workers.is_main:
        write_result(folder, model, config, out, {**recipe, "data_sha256": data.sha256()})
        discard(run_folder)
    workers.barrier()
    return outcome, measure_depths(model, data.held_out, config)


@torch.no_grad()
def measure_depths(model: Model, held_out: Sequence[Ids], config: JointConfig) -> Measured:
    """Nats a token, and agreement with the full depth, after the usual blocks and after all of them."""
    blocks = len(model.blocks)
    after = [*default_positions(blocks), blocks]
    nats, agreed, predicted, positions = dict.fromkeys(after, 0.0), dict.fromkeys(after, 0), 0, 0
    for rows in batches_of(cut(held_out, config.window), config.tokens_per_step, config.seed):
        tokens_RT, real_RT = padded(rows, device_of(model)), real(rows, device_of(model))
        hidden = model.hidden_states(tokens_RT)
        full_N = choice(model.logits(hidden[-1][real_RT]))
        for n, value in summed_nats(model, hidden, after, tokens_RT, real_RT).items():
            nats[n] += float(value)
            agreed[n] += int((choice(model.logits(hidden[n][real_RT])) == full_N).sum())
        predicted, positions = predicted + sum(len(row) - 1 for row in rows), positions + len(full_N)
    return {
        f"after{n}": {"nats a token": nats[n] / predicted, "agreement": agreed[n] / positions} for n in after
    }
