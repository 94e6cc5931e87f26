"""A model with some of its blocks left out for every token: static layer dropping, the baseline of early exits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from offramp.errors import UsageError
from offramp.models.base import Block, Model


def pruned(model: Model, kept: Sequence[int]) -> Model:
    """The model of the blocks numbered `kept`, ascending, which it shares with `model`.

    It can be run, not saved: of the config only the number of blocks follows.
    Raises UsageError for numbers that do not ascend inside the model.
    """
    blocks = len(model.blocks)
    if not kept or list(kept) != sorted({*kept} & {*range(blocks)}):
        raise UsageError(
            f"blocks to keep are {list(kept)}; they must be some of 0 to {blocks - 1}, ascending."
        )
    config = replace(model.config, num_blocks=len(kept))
    chosen = [cast(Block, model.blocks[i]) for i in kept]
    return Model(config, model.embed, chosen, model.norm, model.head).train(model.training)


def first_and_last(num_blocks: int, dropped: int) -> tuple[int, ...]:
    """The blocks that DYNAMAX's pruned baseline keeps when it drops so many: the first ones and the last.

    Raises UsageError where fewer than two would be left, or none is dropped.
    """
    if not 1 <= dropped <= num_blocks - 2:
        raise UsageError(f"{dropped} blocks to drop of {num_blocks}; it must be 1 to {num_blocks - 2}.")
    return (*range(num_blocks - 1 - dropped), num_blocks - 1)
