"""A model cut off after some of its blocks: what remains reads the same norm and head, so it is a model too.

Its logits are the logit lens of the whole model at that depth.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from offramp.convert.source import Source
from offramp.errors import CheckpointError, UsageError
from offramp.models.base import Family, Model
from offramp.models.families import family_for, model_types
from offramp.models.naming import naming_of
from offramp.models.shapes import shapes_only
from offramp.models.unsupported import refuse_features


def truncate(source: Source, depth: int) -> Source:
    """The model of the first `depth` blocks, without exits.

    Raises UsageError for a depth outside 1 .. blocks - 1, CheckpointError for a family or feature that is not known.
    """
    refuse_features(dict(source.config), model_types())
    family = family_for(source.config["model_type"])
    blocks = family.config_from(dict(source.config)).num_blocks
    if not 1 <= depth < blocks:
        raise UsageError(f"a depth of {depth} is outside 1 to {blocks - 1}: this model has {blocks} blocks")
    config = {key: _cut(family, key, value, depth) for key, value in source.config.items()}
    cut = family.config_from(dict(config))
    if cut.num_blocks != depth:
        raise CheckpointError("config.json does not say the number of blocks under a name that is known")
    with shapes_only():
        model: Model = family.build(cut)
    naming = naming_of(family, source.tensors)
    names = {naming(name) for name, _ in model.named_parameters()}
    names |= {naming("head.weight")} & source.tensors.keys()  # a tied head that is stored as well
    if missing := names - source.tensors.keys():
        raise CheckpointError(f"missing in the checkpoint: {min(missing)}")
    tensors = {name: tensor for name, tensor in source.tensors.items() if name in names}
    return replace(source, config=config, tensors=tensors).without_exits()


def _cut(family: Family, key: str, value: Any, depth: int) -> Any:
    if key in family.block_counts:
        return depth
    if key in family.block_lists and isinstance(value, list):
        return value[:depth]
    if key in family.block_numbers and isinstance(value, list):
        return [index for index in value if index < depth]
    return value
