"""Mamba gates, and low-rank lenses that turn an exit's hidden state towards the last block's."""

from __future__ import annotations

from offramp.models.base import ModelConfig
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.recipe import Recipe
from offramp.training.standard import standard


def recipe(model: ModelConfig) -> Recipe:
    return standard(model, "lens", bridge="lens", training=ExitTrainConfig(steps=600))
