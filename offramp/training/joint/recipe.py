"""The recipe of a joint run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from offramp.models.base import ModelConfig
from offramp.training.joint.config import JointConfig
from offramp.training.joint.estimate import rows
from offramp.training.joint.train import train_joint
from offramp.training.recipe import Done, Recipe, Work


@dataclass(frozen=True)
class JointRecipe(Recipe):
    """A backbone that can be left early: a new checkpoint."""

    measured: ClassVar[str] = "every depth on held-out text"
    makes_model: ClassVar[bool] = True

    training: JointConfig

    @property
    def seed(self) -> int:
        return self.training.seed

    def check(self, model: ModelConfig) -> None:
        """Any model that can be loaded can be trained."""

    def estimate(self, work: Work) -> list[tuple[str, str]]:
        return rows(work.model, self.training, work.data)

    def train(self, work: Work) -> Done:
        outcome, metrics = train_joint(
            work.folder,
            work.model,
            work.data,
            self.training,
            work.out,
            limits=work.limits,
            callback=work.callback,
            recipe=self.as_json(),
            workers=work.workers,
        )
        return Done(outcome, metrics)
