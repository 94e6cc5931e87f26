"""The loop that every training run goes through: steps, reports, checkpoints, and the reasons to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from offramp.errors import OfframpError
from offramp.training import checkpoint
from offramp.training.distributed import ALONE, Workers
from offramp.training.interrupt import Interrupt, stop_on_interrupt
from offramp.training.optim import settle
from offramp.training.progress import Callback, Meter, Progress, StepReport, ignore


class Job(Protocol):
    """What is trained. `advance(step)` is one optimizer step, a pure function of the step and the parameters.

    It may draw from torch's own generator, which is seeded anew for every step; of several workers each reports
    the losses' and tokens' part that is its own.
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
    """Where a run ended. `stopped` is "" when it is done, else why it is not.

    damaged: checkpoints it could not go on from; an earlier one served.
    """

    step: int
    steps: int
    stopped: str
    checkpoint: Path
    damaged: tuple[Path, ...] = ()

    @property
    def finished(self) -> bool:
        return self.step >= self.steps

    def message(self) -> str:
        """What to tell the user."""
        damaged = "".join(f"; {path} was damaged, an earlier checkpoint served" for path in self.damaged)
        if self.finished:
            return f"finished {self.steps} steps{damaged}"
        return (
            f"stopped at step {self.step} of {self.steps} ({self.stopped}); "
            f"the same command continues from {self.checkpoint}{damaged}"
        )


@dataclass(frozen=True)
class _Agreed:
    """What all workers do after a step, whoever of them had the reason."""

    interrupted: bool
    overdue: bool
    save: bool

    def why_stop(self, limits: Limits) -> str:
        if self.interrupted:
            return "interrupted"
        return f"the {limits.max_seconds:g} seconds given are over" if self.overdue else ""


@dataclass
class _Run:
    """The mutable part of a run."""

    job: Job
    out: Path
    limits: Limits
    workers: Workers
    step: int
    started: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)
    meter: Meter = field(default_factory=Meter)

    def advance(self) -> None:
        """One step. Its random numbers are the same whenever it is made; every worker draws its own."""
        place = int(self.job.settings.get("seed", 0)) * 1_000_003 + self.step
        torch.manual_seed((place * self.workers.count + self.workers.rank) % 2**63)
        self.meter.add(self.job.advance(self.step))
        self.step += 1

    def agree(self, interrupt: Interrupt) -> _Agreed:
        now, seconds = time.monotonic(), self.limits.max_seconds
        mine = (
            interrupt.requested,
            seconds is not None and now - self.started >= seconds,
            now - self.saved >= self.limits.checkpoint_seconds,
        )
        if self.workers.alone:
            return _Agreed(*mine)
        return _Agreed(*self.workers.sum(torch.tensor(mine, dtype=torch.int32)).bool().tolist())

    def report(self) -> Progress:
        """The recent losses. Raises OfframpError when they are no numbers: nothing of it is worth saving."""
        progress = self.meter.read(self.step, self.job.steps, self.workers.sum)
        if not math.isfinite(progress.loss):
            raise OfframpError(
                f"the loss is {progress.loss} at step {self.step}: training diverged; "
                "start again with a lower learning rate"
            )
        return progress

    def save(self) -> None:
        if self.workers.is_main:
            job = self.job
            checkpoint.save(self.out, self.step, job.settings, job.module, job.optimizers)
        self.saved = time.monotonic()
        self.workers.barrier()


def run(
    job: Job, out: Path, limits: Limits, callback: Callback = ignore, workers: Workers = ALONE
) -> Outcome:
    """Train until the steps are done or a limit is met, always leaving a checkpoint that goes on from there.

    A run already begun in `out` with the same settings is continued. In the end the module has the weights that
    are to be used (see `optim.settle`). All workers must see the same `out`.
    Raises UsageError for other settings and where another process trains into `out`, OfframpError for damaged
    checkpoints and diverging losses.
    """
    with _kept_generator(), checkpoint.sole_writer(out) if workers.is_main else nullcontext():
        workers.barrier()  # what killed runs left is cleared away now
        found = checkpoint.resume(out, job.settings, job.module, job.optimizers)
        if found.step > job.steps:
            raise OfframpError(
                f"the run in {out} is at step {found.step} of {job.steps}: no run of ours; remove it to start again"
            )
        _check_agreement(found.step, out, workers)
        this = _Run(job, out, limits, workers, found.step)
        stopped = _until_stopped(this, callback)
        settle(job.optimizers)
        folder = checkpoint.latest(out)
    assert folder is not None
    return Outcome(this.step, job.steps, stopped, folder, found.damaged)


def _until_stopped(this: _Run, callback: Callback) -> str:
    """All steps that are left, or as many as may be. Returns why it stopped; "" when all are done."""
    stopped = ""
    with stop_on_interrupt() as interrupt:
        while this.step < this.job.steps and not stopped:
            this.advance()
            agreed = this.agree(interrupt)
            stopped = agreed.why_stop(this.limits)
            saves = bool(stopped) or this.step == this.job.steps or agreed.save
            if saves or this.step % this.limits.report_every == 0:
                progress = this.report()
                if this.workers.is_main:
                    callback(progress)
            if saves:
                this.save()
    return stopped


def _check_agreement(step: int, out: Path, workers: Workers) -> None:
    steps = workers.sum(torch.tensor(step))
    if int(steps) != step * workers.count:
        raise OfframpError(
            f"the workers do not see the same checkpoint in {out}: name a folder on a disk that all of them share"
        )


@contextmanager
def _kept_generator() -> Iterator[None]:
    """Leave torch's generators as they are found: a run seeds them for its own steps."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        yield
