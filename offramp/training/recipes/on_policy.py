"""Mamba gates that learn what they hear in use: the model's own text, run with the propagation they are meant for.

First a while on plain text; then the engine writes replies with these gates and every exit's hidden states are
kept; labels are the full model's choices on the text as it was written. Choose the mode with --propagation.
"""

from __future__ import annotations

from offramp.models.base import ModelConfig
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.onpolicy.config import OnPolicyConfig
from offramp.training.onpolicy.recipe import OnPolicyRecipe
from offramp.training.recipe import Recipe
from offramp.training.standard import equal


def recipe(model: ModelConfig) -> Recipe:
    exits = equal(model, "on-policy", "mamba")
    training = ExitTrainConfig(propagation="project", steps=200, rate=1e-3, window=exits.training.window)
    return OnPolicyRecipe("on-policy", exits.exits, training, OnPolicyConfig())
