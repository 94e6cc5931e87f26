"""What an exit hands to the shared norm and head, over whole sequences.

Shapes: R rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from offramp.models.base import Model


def among(exit_RTD: Tensor, deep_RTD: Tensor, leaves_RT: Tensor) -> Tensor:
    """What the last block reads when the marked tokens left at an exit and the others did not."""
    return torch.where(leaves_RT[..., None], exit_RTD.to(deep_RTD.dtype), deep_RTD)


def through_last_block(model: Model, exit_RTD: Tensor, deep_RTD: Tensor) -> Tensor:
    """The last block run on every token's hidden state at an exit: `[R, T, D]`, what `last_block` gives.

    deep_RTD: what the block reads from tokens that did not leave. In use a token that leaves has neighbours
    of both kinds, so the block runs twice: once as if every odd token had left, once every even one.
    """
    last: nn.Module = model.blocks[-1]
    odd_RT = (torch.arange(exit_RTD.shape[1], device=exit_RTD.device) % 2 == 1).expand(exit_RTD.shape[:2])
    odd_RTD = last(among(exit_RTD, deep_RTD, odd_RT))
    even_RTD = last(among(exit_RTD, deep_RTD, ~odd_RT))
    return torch.where(odd_RT[..., None], odd_RTD, even_RTD)


def readings(model: Model, hidden: Sequence[Tensor], after: Sequence[int], last_block: bool) -> list[Tensor]:
    """Of each exit in `after`: its hidden state, run through the last block or not. hidden: see `Model`."""
    if not last_block:
        return [hidden[position] for position in after]
    return [through_last_block(model, hidden[position], hidden[-2]) for position in after]
