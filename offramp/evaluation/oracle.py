"""The oracle: where each token of the full model's own text could have left, had one known.

No gate can be shallower without another text, so this bounds what any gate can save. Nothing runs free: one
teacher-forced pass over the text says what each exit would have chosen.

Shapes: T tokens, N those whose choice is asked for, E exits, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from offramp.evaluation.reduction import Pair
from offramp.exits.base import Exit
from offramp.exits.labels import choice
from offramp.mixers.base import CELL
from offramp.models.base import Block, Model


@torch.inference_mode()
def oracle_depths(
    model: Model, exits: Iterable[Exit], prompt: Sequence[int], tokens: Sequence[int]
) -> list[int]:
    """Of each token the blocks before the shallowest exit whose greedy choice is the full model's; else all of them.

    The first comes from the prompt's pass, at full depth. A bridge that runs the last block runs it after tokens that
    all went to the end.
    """
    if not tokens:
        return []
    blocks, device = len(model.blocks), next(model.parameters()).device
    whole_1T = torch.tensor([[*prompt, *tokens[:-1]]], device=device)
    hidden = model.hidden_states(whole_1T)
    full_N = choice(model.logits(hidden[-1][0, len(prompt) :]))
    depth_N = torch.full_like(full_N, blocks)
    for exit in sorted(exits, key=lambda exit: -exit.after):
        said_N = choice(model.logits(_bridged(model, exit, hidden, len(prompt))))
        depth_N = torch.where(said_N == full_N, exit.after, depth_N)
    return [blocks, *depth_N.tolist()]


def oracle_work(depths: Sequence[int], num_blocks: int, runs_last_block: bool) -> Pair:
    """Blocks that could have been skipped, and all of them, the first token's left out: a share of blocks skipped.

    runs_last_block: the bridges do, so a token that leaves skips one less.
    """
    left = [depth for depth in depths[1:] if depth < num_blocks]
    skipped = sum(num_blocks - depth - runs_last_block for depth in left)
    return float(skipped), float(num_blocks * max(len(depths) - 1, 0))


def _bridged(model: Model, exit: Exit, hidden: Sequence[Tensor], first: int) -> Tensor:
    """What the exit gives the shared norm and head for the tokens from number `first` on, `[N, D]`."""
    _, bridged_1TD = exit(hidden[exit.after])
    if not exit.bridge.borrows_last_block:
        return bridged_1TD[0, first:]
    return _through_last_block(cast(Block, model.blocks[-1]), bridged_1TD[0, first:], hidden[-2], first)


def _through_last_block(block: Block, exit_ND: Tensor, deep_1TD: Tensor, first: int) -> Tensor:
    """The last block run on each token as it left, after those before it as they arrived."""
    state = block.mixer.init_state(1, deep_1TD.shape[1])
    for start in range(0, first, CELL):
        block.prefill(deep_1TD[:, start : min(start + CELL, first)], state, [0])
    found = [exit_ND[:0]]
    for t, exit_D in enumerate(exit_ND):
        found.append(block(exit_D[None], state, [0], [1]))
        block.mixer.rollback(state, [0])
        block.advance(deep_1TD[:, first + t], state, [0], [1])
        block.mixer.commit(state, [0], [1])
    return torch.cat(found)
