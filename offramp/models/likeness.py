"""When two modules are made alike: what holds for one, whatever the weights' values, holds for the other."""

from __future__ import annotations

from torch import Tensor, nn

from offramp.native.quantised_weight import QuantisedWeight


def likeness(module: nn.Module) -> str:
    """Equal for modules of the same classes, settings and shapes inside and out."""
    settings = [
        (type(inner), sorted((name, repr(value)) for name, value in vars(inner).items() if name[0] != "_"))
        for inner in module.modules()
    ]
    return repr((settings, [(weight.shape, weight.dtype, *_kept(weight)) for weight in module.parameters()]))


def _kept(weight: Tensor) -> tuple[str, ...]:
    """How, where it is quantised."""
    return (weight.quantised.name,) if isinstance(weight, QuantisedWeight) else ()
