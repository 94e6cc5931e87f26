"""Many exit sets trained on one backbone that is run once a step for all of them.

Each ends with the weights that training it alone gives: it has its own optimizer, and reads the same batches.

Shapes: R rows, T tokens, D width, E exits, N positions without padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from offramp.data.documents import Documents, Ids
from offramp.exits.exit_set import ExitSet
from offramp.exits.labels import find_label, label_positions, through_last_block
from offramp.models.base import Model
from offramp.training.distil import divergences
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits_job import ExitsJob
from offramp.training.loop import Limits, Outcome, run
from offramp.training.observe import Observation
from offramp.training.progress import StepReport
from offramp.training.readings import readings
from offramp.training.windows import device_of, padded, real


@dataclass(frozen=True)
class Student:
    """One of the exit sets that learn together."""

    name: str
    exits: ExitSet
    config: ExitTrainConfig


class Lesson:
    """A batch run through the backbone once; what exits should say is worked out once for all that agree on it."""

    def __init__(self, model: Model, rows: Sequence[Ids]) -> None:
        self.model, self.rows = model, rows
        self.real_RT = real(rows, device_of(model))
        with torch.no_grad():
            self.hidden = model.hidden_states(padded(rows, device_of(model)))
        self._labels: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def observe(self, exits: ExitSet, config: ExitTrainConfig, distil: bool) -> Observation:
        """What `training.observe.observe` gives."""
        said = [item(self.hidden[item.after].float()) for item in exits]
        bridged = [x_RTD.to(self.hidden[-1].dtype) for _, x_RTD in said]
        kl_EN = None
        if distil:
            labels_ERT, agreed_ERT = self._labelled(config, bridged)
            read = [x_RTD[self.real_RT] for x_RTD in bridged]
            kl_EN = divergences(read, self.hidden[-1][self.real_RT], self.model.logits)
        else:
            labels_ERT, agreed_ERT = self._shared(exits, config)
        if config.label_reads == "exit":
            labels_ERT, _ = self._bare(exits, config)
        gates_ERT = torch.stack([gate_RT for gate_RT, _ in said])
        gates_EN, labels_EN, agreed_EN = (x[:, self.real_RT] for x in (gates_ERT, labels_ERT, agreed_ERT))
        return Observation(gates_EN, labels_EN, agreed_EN, kl_EN)

    def _shared(self, exits: ExitSet, config: ExitTrainConfig) -> tuple[Tensor, Tensor]:
        """Labels and agreement `[E, R, T]` under a bridge without weights."""
        borrows = any(item.bridge.borrows_last_block for item in exits)
        deep = through_last_block(config.label, borrows)
        key = (config.label, config.label_k, exits.after, deep)
        if key not in self._labels:
            with torch.no_grad():
                read = readings(self.model, self.hidden, exits.after, deep)
            self._labels[key] = self._labelled(config, read)
        return self._labels[key]

    def _bare(self, exits: ExitSet, config: ExitTrainConfig) -> tuple[Tensor, Tensor]:
        return self._labelled(config, [self.hidden[after] for after in exits.after])

    @torch.no_grad()
    def _labelled(self, config: ExitTrainConfig, read_RTD: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        label = find_label(config.label, config.label_k)
        return label_positions(label, config.label_k, read_RTD, self.hidden[-1], self.model.logits)


class TogetherJob:
    """All students' optimizer steps, each its own `ExitsJob`; see `loop.Job`."""

    def __init__(self, model: Model, students: Sequence[Student], data: Documents, backbone: str) -> None:
        configs = [student.config for student in students]
        shared = {(c.seed, c.steps, c.tokens_per_step, c.window) for c in configs}
        assert len(shared) == 1, "exit sets that learn together read the same batches for as many steps"
        assert not any(s.exits.config.draft_vocabulary for s in students), (
            "labels they share are of whole heads"
        )
        self.steps, self.lesson = configs[0].steps, Lesson(model, data.training[:1])
        self.jobs = {
            student.name: ExitsJob(model, student.exits, data, student.config, backbone, watch=self.watch)
            for student in students
        }
        self.module = nn.ModuleDict({student.name: student.exits for student in students})
        self.optimizers: Sequence[Optimizer] = [one for job in self.jobs.values() for one in job.optimizers]
        self.settings: Mapping[str, Any] = {
            "seed": configs[0].seed,
            "students": [[name, job.settings] for name, job in self.jobs.items()],
        }

    def advance(self, step: int) -> StepReport:
        losses = {name: job.advance(step).losses["loss"] for name, job in self.jobs.items()}
        whole = torch.stack(list(losses.values())).sum()
        return StepReport({"loss": whole, **losses}, sum(map(len, self.lesson.rows)))

    def watch(
        self, model: Model, exits: ExitSet, rows: Sequence[Ids], config: ExitTrainConfig, distil: bool
    ) -> Observation:
        """The backbone runs for whoever asks first."""
        if self.lesson.rows != rows:
            self.lesson = Lesson(model, rows)
        return self.lesson.observe(exits, config, distil)


def train_together(
    model: Model,
    students: Sequence[Student],
    data: Documents,
    backbone: str,
    run_folder: Path,
    limits: Limits | None = None,
) -> Outcome:
    """Train the students' exits in place. A run that was stopped goes on from `run_folder`."""
    model.requires_grad_(False).eval()
    for student in students:
        student.exits.to(device_of(model), torch.float32).train()
    outcome = run(TogetherJob(model, students, data, backbone), run_folder, limits or Limits())
    for student in students:
        student.exits.eval()
    return outcome
