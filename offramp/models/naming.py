"""Which tensor of a checkpoint holds which of our parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import Tensor

from offramp.models.base import Family, Model

Naming = Callable[[str], str]
"""Our parameter's name -> the checkpoint's."""


def naming_of(family: Family, files: Collection[str]) -> Naming:
    """The family's names, or those of the model without its head (openai-community/gpt2)."""
    if any(name.startswith(family.prefix) for name in files):
        return family.weight_name
    return lambda name: family.weight_name(name).removeprefix(family.prefix)


def parameters_in(model: Model, naming: Naming) -> dict[str, list[str]]:
    """The checkpoint's tensor -> the parameters it holds. A tied head appears once, as the embedding."""
    names: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        names.setdefault(naming(name), []).append(name)
    return names


def stored(model: Model, family: Family, naming: Naming) -> dict[str, Tensor]:
    """The model's parameters as tensors of a checkpoint; on the meta device, the shapes those must have."""
    return {
        tensor: family.join(tensor, [model.get_parameter(name) for name in names], model.config)
        for tensor, names in parameters_in(model, naming).items()
    }
