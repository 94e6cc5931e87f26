"""A new backbone that can be left early: layer dropout and a loss at every exit (LayerSkip, arXiv 2404.16710).

All weights, or low-rank changes with --lora-rank. The exits of what it makes need no gates (`--exits untrained`);
gates can be trained on it like on any checkpoint.
"""

from __future__ import annotations

from offramp.models.base import ModelConfig
from offramp.training.joint.config import JointConfig
from offramp.training.joint.recipe import JointRecipe
from offramp.training.recipe import Recipe


def recipe(model: ModelConfig) -> Recipe:
    return JointRecipe("layerskip", JointConfig(window=min(512, model.context_length)))
