"""One run of the frozen backbone over a batch: what every gate says and what it should say.

Shapes: R rows, T tokens, N positions without padding, E exits, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.exits.exit_set import ExitSet
from offramp.exits.labels import find_label, label_positions, through_last_block
from offramp.models.base import Model
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.readings import readings
from offramp.training.windows import Ids, device_of, padded, real


@dataclass(frozen=True)
class Observation:
    """Gate logits (differentiable), labels, and whether the exit's token is the full model's."""

    gates_EN: Tensor
    labels_EN: Tensor
    agreed_EN: Tensor


def observe(model: Model, exits: ExitSet, rows: Sequence[Ids], config: ExitTrainConfig) -> Observation:
    """Run the backbone once over a batch of windows, and every gate over its exit's hidden states."""
    tokens_RT, real_RT = padded(rows, device_of(model)), real(rows, device_of(model))
    borrows = any(item.bridge.borrows_last_block for item in exits)
    with torch.no_grad():
        hidden = model.hidden_states(tokens_RT)
        read = readings(model, hidden, exits.after, through_last_block(config.label, borrows))
        bridged = [x_RTD if borrows else item.bridge(x_RTD) for item, x_RTD in zip(exits, read, strict=True)]
        labels_ERT, agreed_ERT = label_positions(
            find_label(config.label, config.label_k), config.label_k, bridged, hidden[-1], model.logits
        )
    gates_ERT = torch.stack([item.gate(hidden[item.after].float()) for item in exits])
    return Observation(gates_ERT[:, real_RT], labels_ERT[:, real_RT], agreed_ERT[:, real_RT])
