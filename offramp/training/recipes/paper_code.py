"""The paper as its published code does it: labels the other way round, tokens through the last block.

The label reads the exit's hidden state as it is, though the token that is emitted has been through the last block.
Its other mode copies the token before's keys and values (`copy_token`). Without its faults: every exit keeps its own
weights, no state advances twice.
"""

from __future__ import annotations

from offramp.models.base import ModelConfig
from offramp.training.paper import papers
from offramp.training.recipe import Recipe


def recipe(model: ModelConfig) -> Recipe:
    return papers(model, "paper-code", "linear", "last_block", "oracle_in_exit_topk", "exit", "project")
