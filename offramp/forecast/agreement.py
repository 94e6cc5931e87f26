"""How often an exit that nobody trained would choose the full model's token, at each depth of a grid.

Two readings need no training: the shared norm and head (the logit lens), and the same after the last block (DYNAMAX's
code). One pass over whole texts serves all depths.

Shapes: R rows, T tokens, P positions read, D width, V vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.evaluation.bootstrap import Interval
from offramp.exits.labels import choice
from offramp.forecast.interval import share
from offramp.forecast.prompts import Stretch
from offramp.models.base import Model
from offramp.training.readings import through_last_block
from offramp.training.windows import batches_of, device_of, padded

STEPS = 8
"""The grid: after every eighth of the blocks."""
BATCH_TOKENS = 4096
LOGITS = 1 << 25
"""Numbers of logits that are held at a time."""
LENS, LAST_BLOCK = "none", "last_block"
"""Bridges without weights."""


@dataclass(frozen=True)
class Agreement:
    """Of the exit after `after` blocks, read through `bridge`: the share of positions where it is right."""

    after: int
    bridge: str
    share: Interval


def grid(num_blocks: int) -> tuple[int, ...]:
    """After every eighth of the blocks, rounded down, inside the stack."""
    return tuple(sorted({max(1, num_blocks * step // STEPS) for step in range(1, STEPS)} - {num_blocks}))


@torch.inference_mode()
def agreement_by_depth(
    model: Model,
    stretches: Sequence[Stretch],
    after: Sequence[int],
    seed: int = 0,
    seen: Callable[[int], None] | None = None,
) -> list[Agreement]:
    """In order of depth, the logit lens first; intervals over prompts. `seen` hears how many texts are done."""
    agreed: dict[tuple[int, str], dict[int, int]] = defaultdict(dict)
    tokens: dict[int, int] = {}
    for batch in batches_of(stretches, BATCH_TOKENS, seed=0):
        counts_RT, inputs_RT = _places(model, batch)
        full_P, exits = _choices(model, inputs_RT, counts_RT, after)
        sizes = counts_RT.sum(1).tolist()
        tokens.update((item.prompt, size) for item, size in zip(batch, sizes, strict=True))
        for key, exit_P in exits:
            right = [int(part.sum()) for part in (exit_P == full_P).split(sizes)]
            agreed[key].update((item.prompt, count) for item, count in zip(batch, right, strict=True))
        if seen:
            seen(len(tokens))
    return [
        Agreement(*key, share([counts[prompt] for prompt in tokens], list(tokens.values()), seed))
        for key, counts in sorted(agreed.items(), key=lambda item: (item[0][0], item[0][1] != LENS))
    ]


def _places(model: Model, batch: Sequence[Stretch]) -> tuple[Tensor, Tensor]:
    """Bool `[R, T]`, the positions whose next token counts, and the inputs `[R, T]`."""
    inputs_RT = padded([item.ids for item in batch], device_of(model))[:, :-1]
    counts_RT = torch.zeros_like(inputs_RT, dtype=torch.bool)
    for counts_T, item in zip(counts_RT, batch, strict=True):
        counts_T[item.begin - 1 : len(item) - 1] = True
    return counts_RT, inputs_RT


def _choices(
    model: Model, inputs_RT: Tensor, counts_RT: Tensor, after: Sequence[int]
) -> tuple[Tensor, Iterator[tuple[tuple[int, str], Tensor]]]:
    """The full model's token at each position that counts `[P]`, and every exit's, one after the other.

    Only the depths that are read are kept.
    """
    x_RTD = before_last_RTD = model.embed(inputs_RT)
    kept: dict[int, Tensor] = {}
    for done, block in enumerate(model.blocks, 1):
        before_last_RTD = x_RTD
        x_RTD = block(x_RTD)
        if done in after:
            kept[done] = x_RTD

    def exits() -> Iterator[tuple[tuple[int, str], Tensor]]:
        for at in after:
            exit_RTD = kept.pop(at)
            yield (at, LENS), _tokens(model, exit_RTD[counts_RT])
            if at < len(model.blocks) - 1:  # directly before the last block it would be the full model
                exit_RTD = through_last_block(model, exit_RTD, before_last_RTD)
                yield (at, LAST_BLOCK), _tokens(model, exit_RTD[counts_RT])

    return _tokens(model, x_RTD[counts_RT]), exits()


def _tokens(model: Model, x_PD: Tensor) -> Tensor:
    """What the shared head chooses `[P]`, a few positions at a time: a vocabulary is large."""
    size = max(1, LOGITS // model.config.vocab_size)
    return torch.cat([choice(model.logits(part_PD)) for part_PD in x_PD.split(size)])
