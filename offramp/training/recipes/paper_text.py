"""The paper as it is written: the exit's token among the model's 15 best, no bridge, copied keys and values.

Its gates are a one-layer FFN, a Transformer block and a Mamba block: choose with --gate (linear, transformer,
mamba). What it copies into the blocks that a token skipped is the exit's block's; a Mamba's state stays as it is
(`copy_block` does both, `skip` the latter), or advances (`project`).
"""

from __future__ import annotations

from offramp.models.base import ModelConfig
from offramp.training.paper import papers
from offramp.training.recipe import Recipe


def recipe(model: ModelConfig) -> Recipe:
    return papers(model, "paper-text", "mamba", "none", "exit_in_oracle_topk", "bridge", "copy_block")
