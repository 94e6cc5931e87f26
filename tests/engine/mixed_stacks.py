"""Stacks of Mamba-2 and attention blocks made by hand: blocks of two tiny models, ours and the specification's."""

from __future__ import annotations

import torch
from against_spec import spec_model
from random_models import Tiny, tiny
from spec import Model as SpecModel
from torch import nn

KINDS = {
    "mixed": ("mamba2", "llama") * 4,
    "windowed": ("mistral", "mamba2", "llama", "mamba2")
    * 2,  # the nearest attention block is not always the last
    "late": ("mamba2",) * 5 + ("mistral",) + ("mamba2", "llama"),  # no attention above the first two exits
}


def mixed(
    stack: str, gate: str, bridge: str, seed: int, dtype: torch.dtype = torch.float32
) -> tuple[Tiny, SpecModel]:
    """The stack with the first kind's embedding, norm, head and exits; and the same as the specification sees it."""
    donors = {kind: tiny(kind, gate, bridge, seed, dtype) for kind in set(KINDS[stack])}
    oracles = {kind: spec_model(donor) for kind, donor in donors.items()}
    first = donors[KINDS[stack][0]]
    blocks = [donors[kind].model.blocks[i] for i, kind in enumerate(KINDS[stack])]
    first.model.blocks = nn.ModuleList(blocks)
    oracle = oracles[KINDS[stack][0]]
    exits, theirs = oracle.exits, [oracles[kind].blocks[i] for i, kind in enumerate(KINDS[stack])]
    oracle.blocks = theirs
    oracle.cut(exits)
    return first, oracle
