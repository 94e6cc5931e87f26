"""What training exits will take, before it is done: weights exactly, memory and time from real steps on a copy.

An upper bound comes from a batch of one window; only where the largest batch of the data would fit is it tried.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from offramp.data.documents import Documents, Ids
from offramp.engine.memory import free_bytes
from offramp.exits.exit_set import ExitSet
from offramp.models.base import Model
from offramp.training.alive import PeakMemory, storage_bytes
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits_job import ExitsJob
from offramp.training.windows import device_of

TIMED_STEPS = 3
MOMENTS = 2
"""What each of our optimizers keeps of a parameter beside it."""
OVERHEAD = 1.5
"""What a process takes for each byte of tensors that a step makes: 1.3 to 1.65 were measured on a CPU with gates and
bridges of all kinds. Operations need room within themselves, and allocators keep what was freed."""
CHECKPOINTS = 3
"""On the disk while one is written: it, and the two that are kept."""


@dataclass(frozen=True)
class Estimate:
    """Bytes, and seconds on this machine.

    activation_bytes: what a step makes and frees again.   fits: whether peak_bytes are free; None is unknown.
    seconds_per_step, seconds: None where no step was tried, as for a model without values or too little memory.
    epochs: how often every training token is read.
    """

    trainable_parameters: int
    backbone_bytes: int
    exit_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int | None
    fits: bool | None
    seconds_per_step: float | None
    steps: int
    epochs: float
    disk_bytes: int

    @property
    def peak_bytes(self) -> int | None:
        """All of it at once."""
        if self.activation_bytes is None:
            return None
        weights = self.backbone_bytes + self.exit_bytes
        return weights + self.gradient_bytes + self.optimizer_bytes + self.activation_bytes

    @property
    def seconds(self) -> float | None:
        """Of all steps; the measuring on held-out documents at the end is not in it."""
        return None if self.seconds_per_step is None else self.seconds_per_step * self.steps

    def rows(self) -> list[tuple[str, str]]:
        """Names and values for people."""
        return [
            ("trainable parameters", f"{self.trainable_parameters:,}"),
            ("backbone", _size(self.backbone_bytes)),
            (
                "exits, gradients, moments",
                _size(self.exit_bytes + self.gradient_bytes + self.optimizer_bytes),
            ),
            ("a step's activations", _size(self.activation_bytes)),
            (
                "peak memory",
                _size(self.peak_bytes) + ("" if self.fits in (True, None) else ", more than is free"),
            ),
            ("disk", _size(self.disk_bytes)),
            ("steps", f"{self.steps:,} ({self.epochs:.2g} times through the data)"),
            ("a step takes", _time(self.seconds_per_step)),
            ("all steps take", _time(self.seconds)),
        ]


def estimate(model: Model, exits: ExitSet, config: ExitTrainConfig, data: Documents) -> Estimate:
    """Nothing is changed but that the model's weights are frozen, as in training; nothing is written.

    Raises what `train_exits` raises for data and config.
    """
    weights = storage_bytes(exits.parameters())
    backbone = storage_bytes(chain(model.parameters(), model.buffers()))
    tokens = sum(map(len, data.training))
    activations, fits, seconds = _tried(model, exits, config, data)
    return Estimate(
        trainable_parameters=sum(p.numel() for p in exits.parameters()),
        backbone_bytes=backbone,
        exit_bytes=weights,
        gradient_bytes=weights,
        optimizer_bytes=MOMENTS * weights,
        activation_bytes=activations,
        fits=fits,
        seconds_per_step=seconds,
        steps=config.steps,
        epochs=config.steps * config.tokens_per_step / tokens,
        disk_bytes=weights + CHECKPOINTS * (1 + MOMENTS) * weights,
    )


def _tried(
    model: Model, exits: ExitSet, config: ExitTrainConfig, data: Documents
) -> tuple[int | None, bool | None, float | None]:
    """Activation bytes, whether they fit, seconds of a step."""
    device = device_of(model)
    if device.type == "meta":
        return None, None, None
    model.requires_grad_(False).eval()
    job = ExitsJob(model, copy.deepcopy(exits).to(device, torch.float32).train(), data, config, "")
    largest = max(job.batches, key=_padded)
    bound = _activations(job, largest[-1:]) * len(largest)
    if bound > free_bytes(device):
        return bound, False, None
    return _activations(job, largest), True, _seconds(job)


def _padded(batch: Sequence[Ids]) -> int:
    return len(batch) * max(map(len, batch))


def _activations(job: ExitsJob, batch: Sequence[Ids]) -> int:
    job.learn(batch)  # what is made once and kept, moments above all, is there then
    with PeakMemory() as memory:
        job.learn(batch)
    return round(OVERHEAD * memory.peak)


def _seconds(job: ExitsJob) -> float:
    """Mean of some steps, of batches as they come."""
    begun = time.perf_counter()
    for step in range(TIMED_STEPS):
        report = job.advance(step)
    float(report.losses["loss"])  # waits for the device
    return (time.perf_counter() - begun) / TIMED_STEPS


def _size(count: int | None) -> str:
    if count is None:
        return "unknown"
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.3g} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
