"""Layer dropout that grows with depth: a row skips a block, its hidden state going on as it is.

Shapes: L blocks, R rows, T tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from offramp.models.base import Model
from offramp.training.joint.config import JointConfig


def skip_rates(blocks: int, config: JointConfig, step: int) -> Tensor:
    """Of each block `[L]`: how often a row skips it in this step (LayerSkip, section 4.1)."""
    rates_L = _doubling(torch.arange(blocks), blocks) * config.dropout
    if config.grow_dropout:
        rates_L = rates_L * _doubling(torch.tensor(step), config.steps)
    return rates_L


def _doubling(place: Tensor, count: int) -> Tensor:
    """From 0 at place 0 to 1 at the last one, exponentially: 2 ** (place / last) - 1."""
    return torch.exp2(place.double() / max(1, count - 1)) - 1


def draw_kept(blocks: int, rows: int, config: JointConfig, step: int) -> Tensor:
    """Bool `[L, R]`: which blocks a row goes through; a function of seed and step."""
    generator = torch.Generator().manual_seed((config.seed << 32) + step)
    uniform_LR = torch.rand(blocks, rows, generator=generator, dtype=torch.float64)
    return uniform_LR >= skip_rates(blocks, config, step)[:, None]


def hidden_states(model: Model, tokens_RT: Tensor, kept_LR: Tensor) -> list[Tensor]:
    """As `Model.hidden_states`, each row through the blocks it keeps; the others cost it nothing."""
    states: list[Tensor] = [model.embed(tokens_RT)]
    for block, kept_R in zip(model.blocks, kept_LR.to(tokens_RT.device), strict=True):
        x_RTD = states[-1]
        if bool(kept_R.all()):
            x_RTD = block(x_RTD)
        elif bool(kept_R.any()):
            x_RTD = x_RTD.index_put((kept_R,), block(x_RTD[kept_R]))
        states.append(x_RTD)
    return states
