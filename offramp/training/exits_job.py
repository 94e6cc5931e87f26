"""One optimizer step of all exits at once: the gates' loss, and with bridges that learn their divergence.

Shapes: N positions, E exits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from offramp.data.documents import Documents
from offramp.exits.exit_set import ExitSet
from offramp.models.base import Model
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.observe import observe
from offramp.training.optim import BETAS, remember_peak, set_rate, update
from offramp.training.progress import StepReport
from offramp.training.schedule import cosine
from offramp.training.windows import batches_of, cut, pick


class ExitsJob:
    """One run's backbone, exits and data; see `loop.Job`."""

    def __init__(
        self, model: Model, exits: ExitSet, data: Documents, config: ExitTrainConfig, backbone: str
    ) -> None:
        self.model, self.exits, self.config = model, exits, config
        self.batches = batches_of(cut(data.training, config.window), config.tokens_per_step, config.seed)
        self.steps = config.steps
        self.settings: Mapping[str, Any] = {
            **asdict(config),
            "exits": asdict(exits.config),
            "backbone": backbone,
            "data": data.source,
            "data_sha256": data.sha256(),
        }
        adamw = torch.optim.AdamW(
            exits.parameters(), lr=config.rate, betas=BETAS, weight_decay=config.weight_decay
        )
        self.optimizers: Sequence[Optimizer] = remember_peak([adamw])
        self.weights = loss_weights(len(exits), config.weighting)

    @property
    def module(self) -> ExitSet:
        return self.exits

    def advance(self, step: int) -> StepReport:
        config = self.config
        set_rate(self.optimizers, cosine(step, self.steps, config.warmup_steps))
        rows = self.batches[pick(len(self.batches), config.seed, step)]
        seen = observe(self.model, self.exits, rows, config, distil=self.exits.bridges_learn)
        losses = {
            f"exit{after}": gate_loss(gate_N, label_N, config.balance)
            for after, gate_N, label_N in zip(self.exits.after, seen.gates_EN, seen.labels_EN, strict=True)
        }
        loss = self._weighted(losses)
        if seen.kl_EN is not None:
            kl = {f"kl{at}": kl_N.mean() for at, kl_N in zip(self.exits.after, seen.kl_EN, strict=True)}
            loss = loss + self._weighted(kl)
            losses |= kl
        update(self.optimizers, self.exits.parameters(), loss, config.clip)
        parts = {name: part.detach() for name, part in losses.items()}
        return StepReport({"loss": loss.detach(), **parts}, sum(map(len, rows)))

    def _weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The sum over exits, each counting for its weight."""
        parts = [weight * part for weight, part in zip(self.weights, losses.values(), strict=True)]
        return torch.stack(parts).sum()


def loss_weights(exits: int, weighting: str) -> list[float]:
    """What each exit's loss counts for, from the shallowest on."""
    whole = exits * (exits + 1) / 2
    return [i / whole if weighting == "paper" else 1.0 for i in range(1, exits + 1)]


def gate_loss(gate_N: Tensor, label_N: Tensor, balance: bool) -> Tensor:
    """Binary cross-entropy of gate logits, mean nats a token; balanced: mean of the two classes' means."""
    target_N = label_N.float()
    if not balance:
        return F.binary_cross_entropy_with_logits(gate_N, target_N)
    positives = target_N.sum().clamp(1, len(target_N) - 1)
    class_N = torch.where(label_N, positives, len(target_N) - positives)
    return F.binary_cross_entropy_with_logits(gate_N, target_N, weight=len(target_N) / (2 * class_N))
