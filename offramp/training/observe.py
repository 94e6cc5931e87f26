"""One run of the frozen backbone over a batch: what every gate says and what it should say.

Shapes: R rows, T tokens, N positions without padding, E exits, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from offramp.data.documents import Ids
from offramp.exits.exit_set import ExitSet
from offramp.exits.labels import find_label, label_positions, through_last_block
from offramp.models.base import Model
from offramp.training.distil import divergences
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.readings import readings
from offramp.training.windows import device_of, padded, real


@dataclass(frozen=True)
class Observation:
    """Gate logits (differentiable), labels, and whether the exit's token is the full model's.

    kl_EN: nats from the full model's distribution to the exit's, differentiable; None unless asked for.
    heard_EN: which positions an exit was asked about, the others count for nothing; None: all of them.
    """

    gates_EN: Tensor
    labels_EN: Tensor
    agreed_EN: Tensor
    kl_EN: Tensor | None = None
    heard_EN: Tensor | None = None

    @property
    def positions_E(self) -> Tensor:
        """How many positions count, of each exit."""
        heard_EN = torch.ones_like(self.labels_EN) if self.heard_EN is None else self.heard_EN
        return heard_EN.sum(1)

    def each(self) -> Iterator[Said]:
        """Exit by exit, the positions that count."""
        for e, heard_N in enumerate([...] * len(self.labels_EN) if self.heard_EN is None else self.heard_EN):
            kl_N = None if self.kl_EN is None else self.kl_EN[e][heard_N]
            yield Said(
                self.gates_EN[e][heard_N], self.labels_EN[e][heard_N], self.agreed_EN[e][heard_N], kl_N
            )


def joined(parts: Sequence[Observation]) -> Observation:
    """Several batches' observations as one, on the CPU."""

    def along(name: str) -> Tensor | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else torch.cat(values, dim=1).cpu()

    names = [item.name for item in fields(Observation)]
    return Observation(**{name: along(name) for name in names})  # type: ignore[arg-type]


class Said(NamedTuple):
    """What an `Observation` holds of one exit, `[N]` each."""

    gate_N: Tensor
    label_N: Tensor
    agreed_N: Tensor
    kl_N: Tensor | None


Watch = Callable[[Model, ExitSet, Sequence[Any], ExitTrainConfig, bool], Observation]
"""What exits say of a batch of items, and what they should say: `observe` of text, `onpolicy.listen` of tapes."""


def observe(
    model: Model, exits: ExitSet, rows: Sequence[Ids], config: ExitTrainConfig, distil: bool = False
) -> Observation:
    """Run the backbone once over a batch of windows, and every exit over its hidden states.

    distil: for bridges that learn. A label is about the token that the bridge would emit as it now is, and no
    gradient passes through it: of a bridge only the divergence is a loss, of a gate only the label's, and of a
    trunk that they share both are.
    """
    tokens_RT, real_RT = padded(rows, device_of(model)), real(rows, device_of(model))
    with torch.no_grad():
        hidden = model.hidden_states(tokens_RT)
    said = [item(hidden[item.after].float()) for item in exits]
    bridged = (
        [x_RTD.to(hidden[-1].dtype) for _, x_RTD in said] if distil else _given(model, exits, hidden, config)
    )
    labels_ERT, agreed_ERT = _labelled(model, exits, config, bridged, hidden[-1])
    if config.label_reads == "exit":
        labels_ERT, _ = _labelled(model, exits, config, [hidden[after] for after in exits.after], hidden[-1])
    gates_ERT = torch.stack([gate_RT for gate_RT, _ in said])
    kl_EN = None
    if distil:
        kl_EN = divergences([x_RTD[real_RT] for x_RTD in bridged], hidden[-1][real_RT], model.logits)
    return Observation(gates_ERT[:, real_RT], labels_ERT[:, real_RT], agreed_ERT[:, real_RT], kl_EN)


@torch.no_grad()
def _labelled(
    model: Model, exits: ExitSet, config: ExitTrainConfig, read: Sequence[Tensor], full_RTD: Tensor
) -> tuple[Tensor, Tensor]:
    """Labels and agreement `[E, R, T]` of what the shared norm and head read of each exit."""
    label = find_label(config.label, config.label_k)
    return label_positions(label, config.label_k, read, full_RTD, model.logits, drafted=exits.drafted)


@torch.no_grad()
def _given(model: Model, exits: ExitSet, hidden: Sequence[Tensor], config: ExitTrainConfig) -> list[Tensor]:
    """What bridges without weights give the shared norm and head `[R, T, D]`, or what the label reads instead."""
    borrows = any(item.bridge.borrows_last_block for item in exits)
    read = readings(model, hidden, exits.after, through_last_block(config.label, borrows))
    return [x_RTD if borrows else item.bridge(x_RTD) for item, x_RTD in zip(exits, read, strict=True)]
