"""Weights quantised, tensor by tensor: the folder is loaded as it lies, and says what it was made of.

Numbers and scales of a matrix are written apart, and each is made when its turn comes: that takes time twice, and no
memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from offramp.convert.source import LazyTensor, Source
from offramp.errors import CheckpointError
from offramp.models.base import Family, Model
from offramp.models.families import family_for, model_types
from offramp.models.fingerprint import fingerprint_of
from offramp.models.naming import naming_of, parameters_in, stored
from offramp.models.quantised import Bits, formats_of
from offramp.models.quantised_folder import Quantised
from offramp.models.shapes import shapes_only
from offramp.models.unsupported import refuse_features
from offramp.native.quantise import quantise as quantised
from offramp.native.quantise import shapes


def quantise(source: Source, bits: Bits) -> Source:
    """Matrices of so many bits, all else float32, by the names that our parameters have. Exits stay: they know the
    weights that these were made of.

    Raises CheckpointError as loading the source would.
    """
    refuse_features(dict(source.config), model_types())
    family = family_for(source.config["model_type"])
    with shapes_only():
        model: Model = family.build(family.config_from(dict(source.config)))
    parameters = _parameters(source, family, model)
    with torch.no_grad():
        origin = fingerprint_of(model.config, ((name, lazy.read()) for name, lazy in parameters.items()))
    formats = formats_of(model, bits)
    tensors = {
        key: tensor
        for name, lazy in parameters.items()
        for key, tensor in _kept(name, lazy, formats.get(name))
    }
    return replace(source, tensors=tensors, config={**source.config, **Quantised(bits, origin).as_json()})


def _kept(name: str, lazy: LazyTensor, format: int | None) -> Iterator[tuple[str, LazyTensor]]:
    if format is None:
        yield name, replace(lazy, dtype=torch.float32, read=lambda: lazy.read().float())
        return
    rows, columns = lazy.shape
    for part, (shape, dtype) in shapes(rows, columns, format).items():
        yield f"{name}.{part}", LazyTensor(shape, dtype, partial(_part, name, lazy, format, part))


def _part(name: str, lazy: LazyTensor, format: int, part: str) -> Tensor:
    made: Tensor = getattr(quantised(lazy.read(), format, name), part)
    return made


def _parameters(source: Source, family: Family, model: Model) -> dict[str, LazyTensor]:
    """Our parameters by name, each to be read out of the tensor that holds it. Raises CheckpointError where there is
    one too few, too many, or of another shape."""
    naming = naming_of(family, source.tensors)
    holders, wanted = parameters_in(model, naming), stored(model, family, naming)
    copy = naming("head.weight")
    if model.config.tie_embeddings and copy in source.tensors:
        _check_copy(source.tensors[copy], source.tensors.get(naming("embed.weight")))
    known = {*wanted, copy} if model.config.tie_embeddings else set(wanted)
    for what, names in (
        ("missing", wanted.keys() - source.tensors.keys()),
        ("unused", source.tensors.keys() - known),
    ):
        if names:
            raise CheckpointError(f"{what} in the checkpoint: {min(names)}")
    for name, tensor in wanted.items():
        if source.tensors[name].shape != tuple(tensor.shape):
            raise CheckpointError(f"tensor {name} has another shape than config.json asks for")
    return {
        name: _held(family, model, holder, index, name, source.tensors[holder])
        for holder, names in holders.items()
        for index, name in enumerate(names)
    }


def _held(family: Family, model: Model, holder: str, index: int, name: str, whole: LazyTensor) -> LazyTensor:
    def read() -> Tensor:
        return family.split(holder, whole.read(), model.config)[index].contiguous()

    return LazyTensor(tuple(model.get_parameter(name).shape), whole.dtype, read)


def _check_copy(copy: LazyTensor, embedding: LazyTensor | None) -> None:
    if embedding is not None and not torch.equal(copy.read(), embedding.read()):
        raise CheckpointError(
            "config.json ties head and embedding, but the stored head differs from the embedding"
        )
