"""A model of `transformers` as ours, over the same tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import CheckpointError
from offramp.models.base import Family, Model
from offramp.models.families import family_for
from offramp.models.naming import parameters_in
from offramp.models.shapes import shapes_only

DTYPES = (torch.float32, torch.bfloat16, torch.float64)


@torch.no_grad()
def model_of(theirs: Any) -> Model:
    """Our model over the parameters of `theirs`, a causal language model: shared, not copied, wherever both lay
    them out alike. Of those that it does not hold themselves (fused or transposed ones) it has the values of now.

    Raises CheckpointError for a family, a number format or a quantisation that is not supported.
    """
    family = family_for(theirs.config.model_type)
    weights = _as_stored(theirs, family)
    _refuse_formats(theirs, weights)
    config = family.config_from(theirs.config.to_dict())
    with shapes_only():
        model = family.build(config)
    names = parameters_in(model, family.weight_name)
    if strange := sorted(names.keys() ^ weights.keys()):
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise CheckpointError(
            f"{type(theirs).__name__} is no plain {config.model_type}: missing or unused are "
            f"{', '.join(strange[:3])}{more}; merge adapters first"
        )
    for stored, whole in weights.items():
        for name, part in zip(names[stored], family.split(stored, whole, config), strict=True):
            _put(model, name, part, stored)
    if config.tie_embeddings:
        model.head.register_parameter("weight", model.embed.get_parameter("weight"))
    return model.eval()


def _as_stored(theirs: Any, family: Family) -> dict[str, Tensor]:
    """The parameters by their names in a checkpoint: in memory every head is lm_head (GPT-NeoX stores embed_out)."""
    weights, head = dict(theirs.named_parameters()), "lm_head.weight"
    if head in weights:
        weights[family.weight_name("head.weight")] = weights.pop(head)
    return weights


def _refuse_formats(theirs: Any, weights: Mapping[str, Tensor]) -> None:
    if getattr(theirs, "is_quantized", False):
        raise CheckpointError("the model is quantised: load it in float32 or bfloat16")
    for name, weight in weights.items():
        if weight.is_meta:
            raise CheckpointError(f"{name} is not in memory: load the model whole, on one device")
        if weight.dtype not in DTYPES:
            raise CheckpointError(f"{name} is {weight.dtype}: use model.to(torch.float32) or torch.bfloat16")
    if len({weight.device for weight in weights.values()}) > 1:
        raise CheckpointError("the model lies on several devices: load it on one")


def _put(model: Model, name: str, weight: Tensor, stored: str) -> None:
    wanted = model.get_parameter(name).shape
    if wanted != weight.shape:
        raise CheckpointError(f"{stored} has shape {list(weight.shape)}; config asks for {list(wanted)}")
    owner, _, attribute = name.rpartition(".")
    shared = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False)
    model.get_submodule(owner).register_parameter(attribute, shared)
