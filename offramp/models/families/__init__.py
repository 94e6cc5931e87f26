"""Model families, one a file: `family_for` finds the one that reads a checkpoint's "model_type"."""

from __future__ import annotations

from offramp import registry
from offramp.errors import CheckpointError
from offramp.models.base import Family


def all_families() -> list[Family]:
    """One of each, in the order of their files' names."""
    base: type[Family] = Family
    return [registry.find(__name__, name, base)() for name in registry.names(__name__)]


def model_types() -> list[str]:
    """Every "model_type" that some family loads, sorted."""
    return sorted(name for family in all_families() for name in family.model_types)


def family_for(model_type: str) -> Family:
    """The family that loads `model_type`. Raises CheckpointError listing those there are."""
    for family in all_families():
        if model_type in family.model_types:
            return family
    known = registry.unknown("model_type", model_type, model_types())
    raise CheckpointError(f"unsupported model family: {known}")
