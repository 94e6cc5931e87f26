"""What most recipes have in common: exits for a model's sizes, learning exact agreement with the model."""

from __future__ import annotations

from dataclasses import replace

from offramp.exits.base import BridgeConfig, ExitConfig
from offramp.exits.positions import default_positions
from offramp.models.base import ModelConfig
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.gate_sizes import equal_bottleneck
from offramp.training.recipe import ExitRecipe


def standard(
    model: ModelConfig,
    name: str = "standard",
    gate: str = "mamba",
    bridge: str = "none",
    bridge_config: BridgeConfig | None = None,
    training: ExitTrainConfig | None = None,
) -> ExitRecipe:
    """Exits at the usual depths, with a bottleneck of 64; windows no longer than the model's context."""
    exits = ExitConfig(
        gate=gate,
        bridge=bridge,
        after=default_positions(model.num_blocks),
        hidden_size=model.hidden_size,
        norm_eps=model.norm_eps,
        bridge_config=bridge_config or BridgeConfig(),
    )
    return ExitRecipe(name, exits, within(model, training or ExitTrainConfig()))


def equal(model: ModelConfig, name: str, gate: str, size: str = "medium") -> ExitRecipe:
    """The standard recipe with a gate equal in parameters to the others of `gate_sizes.EQUAL` at that size."""
    recipe = standard(model, name, gate)
    bottleneck = equal_bottleneck(gate, model.hidden_size, size)
    return replace(recipe, exits=replace(recipe.exits, bottleneck=bottleneck))


def within(model: ModelConfig, training: ExitTrainConfig) -> ExitTrainConfig:
    """The same, with windows that the model can read."""
    return replace(training, window=min(training.window, model.context_length))
