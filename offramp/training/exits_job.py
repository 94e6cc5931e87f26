"""One optimizer step of all exits at once: the gates' loss, and with bridges that learn their divergence.

The losses are means over the whole batch, however many workers share its rows.

Shapes: N positions, E exits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from offramp.data.documents import Documents, Ids
from offramp.exits.exit_set import ExitSet
from offramp.models.base import Model
from offramp.training.distributed import ALONE, Workers
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.observe import Observation, Said, Watch, observe
from offramp.training.optim import apply, optimizer_named, set_rate
from offramp.training.progress import StepReport
from offramp.training.schedule import SCHEDULES
from offramp.training.windows import batches_of, cut, pick


class ExitsJob:
    """One run's backbone, exits and data; see `loop.Job`."""

    def __init__(
        self,
        model: Model,
        exits: ExitSet,
        data: Documents,
        config: ExitTrainConfig,
        backbone: str,
        workers: Workers = ALONE,
        watch: Watch = observe,
    ) -> None:
        self.model, self.exits, self.config, self.workers = model, exits, config, workers
        self.watch = watch
        self.batches = batches_of(cut(data.training, config.window), config.tokens_per_step, config.seed)
        self.steps = config.steps
        self.settings: Mapping[str, Any] = {
            **asdict(config),
            "exits": asdict(exits.config),
            "backbone": backbone,
            "data": data.source,
            "data_sha256": data.sha256(),
        }
        self.optimizers: Sequence[Optimizer] = [
            optimizer_named(config.optimizer, exits.parameters(), config.rate, config.weight_decay)
        ]
        self.factor = SCHEDULES[config.optimizer]
        self.weights = loss_weights(len(exits), config.weighting)

    @property
    def module(self) -> ExitSet:
        return self.exits

    def observe(self, rows: Sequence[Ids]) -> Observation:
        """What the exits say of some of a batch's rows, and what they should say."""
        return self.watch(self.model, self.exits, rows, self.config, self.exits.bridges_learn)

    def advance(self, step: int) -> StepReport:
        set_rate(self.optimizers, self.factor(step, self.steps, self.config.warmup_steps))
        return self.learn(self.batches[pick(len(self.batches), self.config.seed, step)])

    def learn(self, batch: Sequence[Ids]) -> StepReport:
        """One optimizer step. This worker reads its share of the rows; all of them make the same step."""
        rows = self.workers.share(batch)
        seen = self.observe(rows) if rows else None
        whole = Whole.of(seen, len(self.exits), self.workers)
        losses = self._nothing() if seen is None else self._losses(seen, whole)
        if seen is not None:
            torch.autograd.backward(losses["loss"])
        self.workers.sum_gradients(self.exits.parameters())
        apply(self.optimizers, self.exits.parameters(), self.config.clip)
        return StepReport({name: part.detach() for name, part in losses.items()}, sum(map(len, rows)))

    def _losses(self, seen: Observation, whole: Whole) -> dict[str, Tensor]:
        """This worker's part of the batch's: "loss", and "exit<n>" and "kl<n>" after n blocks."""
        said = list(enumerate(seen.each()))
        losses = self._named("exit", [self._gate_part(e, one, whole) for e, one in said])
        loss = self._weighted(losses)
        if seen.kl_EN is not None:
            kl = self._named("kl", [whole.mean_part(e, one.kl_N) for e, one in said if one.kl_N is not None])
            loss = loss + self._weighted(kl)
            losses |= kl
        return {"loss": loss, **losses}

    def _gate_part(self, e: int, one: Said, whole: Whole) -> Tensor:
        if not len(one.label_N):
            return one.gate_N.sum()  # nothing: the mean of none is no number
        positives, positions = whole.positives_E[e], whole.positions_E[e]
        share = len(one.label_N) / positions
        return share * gate_loss(one.gate_N, one.label_N, self.config.balance, positives, positions)

    def _nothing(self) -> dict[str, Tensor]:
        """The losses' parts of a worker that has no rows of a batch."""
        zeros = [torch.zeros((), device=self.workers.device)] * len(self.exits)
        kl = self._named("kl", zeros) if self.exits.bridges_learn else {}
        return {"loss": zeros[0], **self._named("exit", zeros), **kl}

    def _named(self, kind: str, losses: Sequence[Tensor]) -> dict[str, Tensor]:
        return {f"{kind}{after}": loss for after, loss in zip(self.exits.after, losses, strict=True)}

    def _weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The sum over exits, each counting for its weight."""
        parts = [weight * part for weight, part in zip(self.weights, losses.values(), strict=True)]
        return torch.stack(parts).sum()


@dataclass(frozen=True)
class Whole:
    """Of a batch that workers share, of each exit: how many positions it is asked about, how many labels positive."""

    positions_E: list[int]
    positives_E: Tensor

    @classmethod
    def of(cls, seen: Observation | None, exits: int, workers: Workers) -> Whole:
        """seen: this worker's part, None for none."""
        if seen is None:
            nothing_E = torch.zeros(exits, device=workers.device)
            return cls._summed(nothing_E, nothing_E, workers)
        positives = [one.label_N.float().sum() for one in seen.each()]
        return cls._summed(seen.positions_E, torch.stack(positives), workers)

    def mean_part(self, e: int, values_N: Tensor) -> Tensor:
        """What the positions of a worker add to the mean over all that exit e is asked about."""
        share = len(values_N) / max(1, self.positions_E[e])
        return share * values_N.mean() if len(values_N) else values_N.sum()

    @classmethod
    def _summed(cls, positions_E: Tensor, positives_E: Tensor, workers: Workers) -> Whole:
        if workers.alone:
            return cls(positions_E.tolist(), positives_E)
        both_2E = workers.sum(torch.stack([positions_E.to(positives_E), positives_E]).double())
        return cls(both_2E[0].int().tolist(), both_2E[1].to(positives_E.dtype))


def loss_weights(exits: int, weighting: str) -> list[float]:
    """What each exit's loss counts for, from the shallowest on."""
    whole = exits * (exits + 1) / 2
    return [i / whole if weighting == "paper" else 1.0 for i in range(1, exits + 1)]


def gate_loss(
    gate_N: Tensor,
    label_N: Tensor,
    balance: bool,
    positives: Tensor | None = None,
    positions: int | None = None,
) -> Tensor:
    """Binary cross-entropy of gate logits, mean nats a token; balanced: mean of the two classes' means.

    positives, positions: how many labels are positive, of how many, where these are a part of a batch.
    """
    target_N = label_N.float()
    if not balance:
        return F.binary_cross_entropy_with_logits(gate_N, target_N)
    count = len(target_N) if positions is None else positions
    positives = (target_N.sum() if positives is None else positives).clamp(1, count - 1)
    class_N = torch.where(label_N, positives, count - positives)
    return F.binary_cross_entropy_with_logits(gate_N, target_N, weight=count / (2 * class_N))
