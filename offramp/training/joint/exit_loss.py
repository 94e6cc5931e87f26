"""The loss at every exit, through the model's own norm and head; deeper exits count for more.

Shapes: L blocks, R rows, T tokens, N positions that have a next token, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from torch import Tensor

from offramp.models.base import Model


def read_after(blocks: int, rotation: int, step: int) -> list[int]:
    """The numbers of blocks after which a step's losses are read: every `rotation`-th, and always the last."""
    return [n for n in range(1, blocks) if n % rotation == step % rotation] + [blocks]


def exit_weights(after: Iterable[int], blocks: int, scale: float) -> dict[int, float]:
    """What the loss after n blocks counts for, all of them 1 together (LayerSkip, section 4.1.2).

    Exit number l, from 0, weighs scale * (0 + 1 + ... + l), the last one L - 1 more.
    """
    raw = {n: scale * n * (n - 1) / 2 for n in after}
    raw[blocks] = blocks - 1 + scale * (blocks - 1) * (blocks - 2) / 2 or 1.0
    whole = sum(raw.values())
    return {n: weight / whole for n, weight in raw.items()}


def summed_nats(
    model: Model, hidden: Sequence[Tensor], after: Iterable[int], tokens_RT: Tensor, real_RT: Tensor
) -> dict[int, Tensor]:
    """After n blocks: nats of each next token, summed over the positions that have one."""
    has_next_RT = real_RT[:, 1:]
    targets_N = tokens_RT[:, 1:][has_next_RT]
    return {
        n: F.cross_entropy(model.logits(hidden[n][:, :-1][has_next_RT]).float(), targets_N, reduction="sum")
        for n in after
    }
