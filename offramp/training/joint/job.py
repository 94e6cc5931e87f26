"""One optimizer step of a backbone that learns to be left early.

Shapes: L blocks, R rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from offramp.data.documents import Documents, Ids
from offramp.models.base import Model
from offramp.training.distributed import ALONE, Workers
from offramp.training.joint.config import JointConfig
from offramp.training.joint.dropout import draw_kept, hidden_states
from offramp.training.joint.exit_loss import exit_weights, read_after, summed_nats
from offramp.training.optim import apply, optimizer_named, set_rate
from offramp.training.progress import StepReport
from offramp.training.schedule import SCHEDULES
from offramp.training.windows import batches_of, cut, device_of, padded, pick, real


class Learning(nn.Module):
    """The parameters of a model that learn, by their names in it: what a checkpoint of the run holds."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                self.register_parameter(name.replace(".", "/"), weight)


class JointJob:
    """One run's model and data; see `loop.Job`."""

    def __init__(
        self, model: Model, data: Documents, config: JointConfig, backbone: str, workers: Workers = ALONE
    ) -> None:
        self.model, self.config, self.workers = model, config, workers
        self.batches = batches_of(cut(data.training, config.window), config.tokens_per_step, config.seed)
        self.steps = config.steps
        self.settings: Mapping[str, Any] = {
            **asdict(config),
            "backbone": backbone,
            "data": data.source,
            "data_sha256": data.sha256(),
        }
        self.learning = Learning(model)
        self.optimizers: Sequence[Optimizer] = [
            optimizer_named(config.optimizer, self.learning.parameters(), config.rate, config.weight_decay)
        ]
        self.factor = SCHEDULES[config.optimizer]

    @property
    def module(self) -> nn.Module:
        return self.learning

    def advance(self, step: int) -> StepReport:
        """This worker reads its share of the rows; all make the same step."""
        config = self.config
        set_rate(self.optimizers, self.factor(step, self.steps, config.warmup_steps))
        batch = self.batches[pick(len(self.batches), config.seed, step)]
        losses = self._losses(step, batch)
        self.workers.sum_gradients(self.learning.parameters())
        apply(self.optimizers, self.learning.parameters(), config.clip)
        return StepReport(losses, sum(map(len, self.workers.share(batch))))

    def _losses(self, step: int, batch: Sequence[Ids]) -> dict[str, Tensor]:
        """Leave the gradient of this worker's part of the batch's mean loss. Returns the losses' parts."""
        blocks = len(self.model.blocks)
        weights = exit_weights(read_after(blocks, self.config.rotation, step), blocks, self.config.exit_scale)
        mine = list(self.workers.share(batch))
        zero = torch.zeros((), device=device_of(self.model))
        nats = self._nats(step, batch, mine, weights) if mine else dict.fromkeys(weights, zero)
        predicted = sum(len(row) - 1 for row in batch)
        parts = {n: value / predicted for n, value in nats.items()}
        loss = torch.stack([weights[n] * part for n, part in parts.items()]).sum()
        if mine:
            torch.autograd.backward(loss)
        # An exit is read in some steps only: what is reported must be there in all of them.
        return {"loss": loss.detach(), "full": parts[blocks].detach()}

    def _nats(
        self, step: int, batch: Sequence[Ids], mine: Sequence[Ids], after: Mapping[int, float]
    ) -> dict[int, Tensor]:
        """Of this worker's rows, which skip what they would skip if one worker had them all."""
        device = device_of(self.model)
        kept_LR = draw_kept(len(self.model.blocks), len(batch), self.config, step)
        kept_LR = kept_LR[:, list(self.workers.share(range(len(batch))))]
        tokens_RT = padded(mine, device)
        hidden = hidden_states(self.model, tokens_RT, kept_LR)
        return summed_nats(self.model, hidden, after, tokens_RT, real(mine, device))
