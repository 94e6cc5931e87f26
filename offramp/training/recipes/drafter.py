"""Drafters: a small Mamba (or attention) block at each exit, whose trunk the gate shares.

The trunk's kind is the gate's: `--gate transformer` makes it attend.
"""

from __future__ import annotations

from offramp.exits.base import BridgeConfig
from offramp.exits.bridges.block import OF_GATE
from offramp.models.base import ModelConfig
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.recipe import Recipe
from offramp.training.standard import standard


def recipe(model: ModelConfig) -> Recipe:
    shared = BridgeConfig(mixer=OF_GATE)
    return standard(model, "drafter", "mamba", "block", shared, ExitTrainConfig(steps=600))
