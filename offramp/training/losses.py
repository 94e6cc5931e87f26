"""Losses of a backbone trained with early exits.

Shapes: R rows, T tokens, P chosen positions, D width, V vocabulary, N = R * T.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.models.base import Model
from offramp.training.batches import Batch
from offramp.training.readings import among


def weighted_cross_entropy(logits_NV: Tensor, targets_N: Tensor, weights_N: Tensor) -> Tensor:
    """Mean nats a token, each token counting by its weight."""
    nats_N = F.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    return (nats_N * weights_N).sum() / weights_N.sum()


def joint_losses(
    model: Model, batch: Batch, after: tuple[int, ...], chosen_P: Tensor, last_block_exit: int | None
) -> dict[str, Tensor]:
    """Cross-entropies through the shared norm and head: "final", "exit<n>" after n blocks, and "last_block".

    The exits are read at the chosen positions (indices into N) only: a projection on the vocabulary costs
    more than several of a small model's blocks. As in CALM and LayerSkip all share the model's own head.
    """
    hidden = model.hidden_states(batch.inputs_RT)
    targets_N, weights_N = batch.targets_RT.flatten(), batch.weights_RT.flatten()
    losses = {"final": weighted_cross_entropy(model.logits(hidden[-1]).flatten(0, 1), targets_N, weights_N)}

    def chosen_loss(x_RTD: Tensor) -> Tensor:
        x_PD = x_RTD.flatten(0, 1)[chosen_P]
        return weighted_cross_entropy(model.logits(x_PD), targets_N[chosen_P], weights_N[chosen_P])

    for position in after:
        losses[f"exit{position}"] = chosen_loss(hidden[position])
    if last_block_exit is not None:
        # The chosen tokens leave, their neighbours do not: as the bridge `last_block` meets them.
        leaves_RT = mark(chosen_P, hidden[-2])
        left_RTD = among(hidden[last_block_exit], hidden[-2], leaves_RT)
        losses["last_block"] = chosen_loss(model.blocks[-1](left_RTD))
    return losses


def mark(positions_P: Tensor, like_RTD: Tensor) -> Tensor:
    """Bool `[R, T]`, true at the given indices into R * T."""
    marks_N = torch.zeros(like_RTD.shape[:2].numel(), dtype=torch.bool, device=like_RTD.device)
    return marks_N.index_fill(0, positions_P, True).view(like_RTD.shape[:2])


def total(losses: dict[str, Tensor], exit_weight: float, last_block_weight: float) -> Tensor:
    """final + exit_weight * mean over exits + last_block_weight * last_block."""
    exits = [loss for name, loss in losses.items() if name.startswith("exit")]
    loss = losses["final"] + exit_weight * torch.stack(exits).mean()
    return loss + last_block_weight * losses["last_block"] if "last_block" in losses else loss
