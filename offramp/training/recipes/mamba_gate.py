"""Gates with a recurrent memory, equal in parameters to the two other kinds."""

from __future__ import annotations

from offramp.models.base import ModelConfig
from offramp.training.recipe import Recipe
from offramp.training.standard import equal


def recipe(model: ModelConfig, size: str = "medium") -> Recipe:
    """size: one of `gate_sizes.SIZES`."""
    return equal(model, "mamba-gate", "mamba", size)
