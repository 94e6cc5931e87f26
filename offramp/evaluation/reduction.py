"""The paper's "Computational Reduction Factor", as published and as corrected (DYNAMAX's evaluation code).

    total / (total - ignored + pen)    total: blocks a full model runs · ignored: blocks behind the exits taken ·
                                       pen: what `project` still costs, a share of each block ignored

The published code counts the last block as ignored, which runs all the same, and takes 4/24 of a Transformer's block
and 9/26 of a Mamba's for the share. Those are of other blocks than it ran: in Mistral keys and values are 3.8 %.
The corrected factor takes the blocks that truly ran, whatever the propagation, and the true share of each.

Both are pairs (total, what was spent), to be summed over replies before one is divided by the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from offramp.engine.reply import Stats
from offramp.evaluation.cost import Costs
from offramp.models.base import Block, Model

Pair = tuple[float, float]
ATTENTION_SHARE, MAMBA_SHARE = 4 / 24, 9 / 26
FREE = ("copy_block", "copy_token", "skip")


def published_share(model: Model, propagation: str) -> float | None:
    """The share of a block that the published code charges for one skipped; None for propagations it has not.

    Blocks of two kinds are charged their mean.
    """
    if propagation in FREE:
        return 0.0
    if propagation != "project":
        return None
    kinds = [cast(Block, block).mixer.entry_kind is not None for block in model.blocks]
    return sum(ATTENTION_SHARE if keeps else MAMBA_SHARE for keeps in kinds) / len(kinds)


def published(depths: Sequence[int], num_blocks: int, share: float) -> Pair:
    """As the paper's code computes it, from the depths of a reply's tokens."""
    total = num_blocks * max(len(depths) - 1, 0)
    ignored = sum(num_blocks - depth for depth in depths[1:])
    return float(total), total - ignored + share * ignored


def true_shares(costs: Costs) -> dict[str, dict[str, float]]:
    """By block and verb, the share of the block's weights that the verb reads: 1 for its run."""
    return {
        part: {verb: cost.weight_bytes / max(1, verbs["run"].weight_bytes) for verb, cost in verbs.items()}
        for part, verbs in costs.items()
        if part.startswith("blocks.")
    }


def corrected(stats: Stats, tokens: int, num_blocks: int, shares: Mapping[str, Mapping[str, float]]) -> Pair:
    """From what was truly computed for a reply of so many tokens. shares: `true_shares` of the model that ran.

    num_blocks: of the full model. The blocks that a `last_block` bridge ran are among `block_tokens`.
    """
    settled = sum(
        shares[part][verb] * count
        for part, work in stats.work.items()
        if part in shares
        for verb, count in work.tokens.items()
        if verb != "run"
    )
    return float(num_blocks * max(tokens - 1, 0)), stats.block_tokens + settled
