"""The exit sets that a study compares, by name."""

from __future__ import annotations

from collections.abc import Callable

from offramp.errors import UnknownName
from offramp.models.base import ModelConfig
from offramp.registry import unknown
from offramp.training.gate_sizes import EQUAL, SIZES
from offramp.training.recipe import ExitRecipe, Recipe, find_recipe
from offramp.training.standard import equal, standard

REFERENCE = "mamba-medium"
"""What propagations, bridges and policies are tried on."""
LINEAR = "linear"
GATES = (LINEAR, *(f"{gate}-{size}" for gate in EQUAL for size in SIZES))
"""Gates on bridge `none`: a linear one as the floor, the others equal in parameters at each size."""
BRIDGES = ("lens", "drafter")
PAPER = ("paper-text", "paper-code")


def exit_recipe(arm: str, model: ModelConfig) -> ExitRecipe:
    """The recipe of an arm. Raises UnknownName for one that does not exist."""
    gate, _, size = arm.partition("-")
    if arm in GATES:
        return equal(model, arm, gate, size) if size else standard(model, arm, gate)
    if arm not in _OTHERS:
        raise UnknownName(unknown("arm", arm, [*GATES, *_OTHERS]))
    found = _OTHERS[arm](model)
    assert isinstance(found, ExitRecipe)
    return found


_OTHERS: dict[str, Callable[[ModelConfig], Recipe]] = {
    "lens": lambda model: find_recipe("lens", model),
    "drafter": lambda model: find_recipe("drafter", model),
    "paper-text": lambda model: find_recipe("paper-text", model),
    "paper-code": lambda model: find_recipe("paper-code", model),
}
