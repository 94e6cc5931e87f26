"""Load a model from a checkpoint folder or hub id, strictly; save one so that `transformers` reads it too."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from offramp.errors import CheckpointError
from offramp.files import replacement, write_whole
from offramp.models.base import Family, Model
from offramp.models.families import family_for, model_types
from offramp.models.fingerprint import fingerprint
from offramp.models.folder import local_folder, read_config
from offramp.models.naming import naming_of, parameters_in, stored
from offramp.models.shapes import shapes_only
from offramp.models.tensors import SINGLE, read_tensors, tensor_files, write_tensors
from offramp.models.unsupported import refuse_features

__all__ = ["fingerprint", "load_model", "local_folder", "save_model"]


def load_model(
    source: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    revision: str | None = None,
) -> Model:
    """The model in the folder, or of the hub id, `source`.

    Raises CheckpointError for whatever is missing, unused, damaged, unsafe or not supported, naming it.
    """
    folder = local_folder(source, revision)
    raw = read_config(folder)
    refuse_features(raw, model_types())
    family = family_for(raw["model_type"])
    config = family.config_from(raw)
    files = {name: path for name, path in tensor_files(folder).items() if not name.endswith(family.derived)}
    with shapes_only():
        model = family.build(config)
    _fill(model, family, files, dtype, torch.device(device))
    return model


def save_model(model: Model, folder: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write config.json and model.safetensors in Hugging Face's names, each whole or not at all.

    Raises OSError where they cannot be written.   dtype: what the weights are stored in; as they are if None.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    family = family_for(model.config.model_type)
    tensors = {
        name: weight.detach().to("cpu", dtype or weight.dtype).contiguous()
        for name, weight in stored(model, family, family.weight_name).items()
    }
    written = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    config = json.dumps(family.config_to(model.config) | {"dtype": written}, indent=2)
    with replacement(folder / SINGLE) as fresh:
        write_tensors(tensors, fresh, metadata={"format": "pt"})
    write_whole(folder / "config.json", config + "\n")


def _fill(
    model: Model, family: Family, files: dict[str, Path], dtype: torch.dtype, device: torch.device
) -> None:
    """Replace every parameter of a model on the meta device by its tensor."""
    naming = naming_of(family, files)
    names = parameters_in(model, naming)
    shapes = {name: list(weight.shape) for name, weight in stored(model, family, naming).items()}
    duplicate = naming("head.weight")
    tied = model.config.tie_embeddings
    if tied and duplicate in files:
        shapes[duplicate] = shapes[naming("embed.weight")]
    _refuse("missing", shapes.keys() - files.keys())
    _refuse("unused", files.keys() - shapes.keys())
    copy: Tensor | None = None
    for name, tensor in read_tensors(files, shapes, dtype):
        if name in names:
            parts = family.split(name, tensor, model.config)
            for parameter, part in zip(names[name], parts, strict=True):
                _assign(model, parameter, part.contiguous().to(device))
        else:
            copy = tensor.to(device)
    if tied:
        _tie(model, copy)


def _assign(model: Model, name: str, tensor: Tensor) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, nn.Parameter(tensor))


def _tie(model: Model, copy: Tensor | None) -> None:
    """The head becomes the embedding; a stored copy of it must be equal."""
    weight = model.embed.get_parameter("weight")
    if copy is not None and not torch.equal(copy, weight):
        raise CheckpointError(
            "config.json ties head and embedding, but the stored head differs from the embedding"
        )
    model.head.register_parameter("weight", weight)


def _refuse(what: str, names: Collection[str]) -> None:
    if names:
        first = ", ".join(sorted(names)[:3])
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise CheckpointError(f"{what} in the checkpoint: {first}{more}")
