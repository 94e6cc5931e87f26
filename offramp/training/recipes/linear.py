"""Linear gates: the floor that every other gate must beat."""

from __future__ import annotations

from offramp.models.base import ModelConfig
from offramp.training.recipe import Recipe
from offramp.training.standard import standard


def recipe(model: ModelConfig) -> Recipe:
    return standard(model, "linear", "linear")
