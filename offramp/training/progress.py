"""What a training run tells its watcher. Drawing it is the command line's business."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """Sent every few steps. Losses are nats a token, means since the last report.

    tokens: read so far, by all workers, since the run was last begun or resumed.
    loss: what is minimised; losses: its parts.
    """

    step: int
    steps: int
    tokens: int
    tokens_per_second: float
    loss: float
    losses: Mapping[str, float]


@dataclass(frozen=True)
class StepReport:
    """One step: its losses (scalar tensors, still on the device) and the tokens it read.

    Of several workers each has its part of both.
    """

    losses: Mapping[str, Tensor]
    tokens: int


Callback = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """The callback of a run nobody watches."""


def _as_it_is(values: Tensor) -> Tensor:
    return values


@dataclass
class Meter:
    """Sums losses on the device; only `read` waits for it."""

    tokens: int = 0
    _since: float = field(default_factory=time.perf_counter)
    _recent: int = 0
    _count: int = 0
    _sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, report: StepReport) -> None:
        for name, loss in report.losses.items():
            self._sums[name] = self._sums[name] + loss if name in self._sums else loss
        self._count += 1
        self._recent += report.tokens
        self.tokens += report.tokens

    def read(self, step: int, steps: int, over_workers: Callable[[Tensor], Tensor] = _as_it_is) -> Progress:
        """The means since the last reading. "loss" must be among the losses added.

        over_workers: adds up what each worker has of a tensor, where several share every step.
        """
        sums = over_workers(torch.stack([total.float() for total in self._sums.values()]))
        losses = dict(zip(self._sums, (sums / self._count).tolist(), strict=True))
        tokens, recent = over_workers(torch.tensor([self.tokens, self._recent])).tolist()
        now = time.perf_counter()
        rate = recent / max(now - self._since, 1e-9)
        self._since, self._recent, self._count, self._sums = now, 0, 0, {}
        return Progress(step, steps, tokens, rate, losses.pop("loss"), losses)
