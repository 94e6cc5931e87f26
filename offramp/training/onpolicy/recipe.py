"""The recipe of an on-policy run."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.errors import UsageError
from offramp.models.base import ModelConfig
from offramp.training.onpolicy.config import OnPolicyConfig
from offramp.training.onpolicy.train import OnPolicyRun, train_on_policy
from offramp.training.recipe import Done, ExitRecipe, Work


@dataclass(frozen=True)
class OnPolicyRecipe(ExitRecipe):
    """Exits that learn from the model's own text, as they hear it."""

    policy: OnPolicyConfig

    def check(self, model: ModelConfig) -> None:
        super().check(model)
        if self.exits.bridge == "last_block":
            raise UsageError("an on-policy recipe has no bridge last_block: use none, lens or block")

    def train(self, work: Work) -> Done:
        run = OnPolicyRun(work, self.training, self.policy, self.as_json())
        outcome, info = train_on_policy(run, self.fresh_exits(work))
        return Done(outcome, info.metrics if info else None)
