"""The loop that every training run goes through: steps, reports, checkpoints, and the reasons to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer

from offramp.errors import OfframpError
from offramp.training import checkpoint
from offramp.training.interrupt import Interrupt, stop_on_interrupt
from offramp.training.progress import Callback, Meter, Progress, StepReport, ignore


class Job(Protocol):
    """What is trained. `advance(step)` is one optimizer step, a pure function of the step and the parameters.

    settings: what must be equal for a run to be resumed.   module: what is trained, and checkpointed.
    """

    steps: int
    settings: Mapping[str, Any]
    optimizers: Sequence[Optimizer]

    @property
    def module(self) -> nn.Module: ...

    def advance(self, step: int) -> StepReport: ...


@dataclass(frozen=True)
class Limits:
    """When to report, save and stop. They may differ between a run and its resumption.

    max_seconds: stop cleanly after so long (None: never).   checkpoint_seconds: longest time between saves.
    """

    max_seconds: float | None = None
    checkpoint_seconds: float = 120.0
    report_every: int = 20


@dataclass(frozen=True)
class Outcome:
    """Where a run ended. `stopped` is "" when it is done, else why it is not."""

    step: int
    steps: int
    stopped: str
    checkpoint: Path

    @property
    def finished(self) -> bool:
        return self.step >= self.steps

    def message(self) -> str:
        """One sentence for the user."""
        if self.finished:
            return f"finished {self.steps} steps"
        return (
            f"stopped at step {self.step} of {self.steps} ({self.stopped}); "
            f"the same command continues from {self.checkpoint}"
        )


@dataclass
class _Run:
    """The mutable part of a run."""

    job: Job
    out: Path
    limits: Limits
    step: int
    started: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)
    meter: Meter = field(default_factory=Meter)

    def why_stop(self, interrupt: Interrupt) -> str:
        seconds = self.limits.max_seconds
        if interrupt.requested:
            return "interrupted"
        if seconds is not None and time.monotonic() - self.started >= seconds:
            return f"the {seconds:g} seconds given are over"
        return ""

    def save_due(self) -> bool:
        return time.monotonic() - self.saved >= self.limits.checkpoint_seconds

    def report(self) -> Progress:
        """The recent losses. Raises OfframpError when they are no numbers: nothing of it is worth saving."""
        progress = self.meter.read(self.step, self.job.steps)
        if not math.isfinite(progress.loss):
            raise OfframpError(
                f"the loss is {progress.loss} at step {self.step}: training diverged; "
                "start again with a lower learning rate"
            )
        return progress

    def save(self) -> Path:
        self.saved = time.monotonic()
        job = self.job
        return checkpoint.save(self.out, self.step, job.settings, job.module, job.optimizers)


def run(job: Job, out: Path, limits: Limits, callback: Callback = ignore) -> Outcome:
    """Train until the steps are done or a limit is met, always leaving a checkpoint that goes on from there.

    A run already begun in `out` with the same settings is continued.
    Raises UsageError for other settings, OfframpError for damaged checkpoints and diverging losses.
    """
    this = _Run(job, out, limits, checkpoint.resume(out, job.settings, job.module, job.optimizers))
    stopped = ""
    with stop_on_interrupt() as interrupt:
        while this.step < job.steps and not stopped:
            this.meter.add(job.advance(this.step))
            this.step += 1
            stopped = this.why_stop(interrupt)
            saves = bool(stopped) or this.step == job.steps or this.save_due()
            if saves or this.step % limits.report_every == 0:
                callback(this.report())
            if saves:
                this.save()
    folder = checkpoint.latest(out)
    assert folder is not None
    return Outcome(this.step, job.steps, stopped, folder)
