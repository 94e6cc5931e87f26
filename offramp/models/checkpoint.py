"""Load a model from a checkpoint folder or hub id, strictly; save one so that `transformers` reads it too."""

from __future__ import annotations

import json
from collections.abc import Collection, Set
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
from offramp.models.quantised import Bits, bits_of, plain, quantise_weights
from offramp.models.quantised_folder import Quantised, fill_quantised, parts_wanted, quantised_in
from offramp.models.shapes import shapes_only
from offramp.models.tensors import SINGLE, read_tensors, tensor_files, write_tensors
from offramp.models.unsupported import refuse_features

__all__ = ["fingerprint", "load_model", "local_folder", "save_model"]


def load_model(
    source: str | Path,
    *,
    dtype: torch.dtype | Bits = torch.float32,
    device: str | torch.device = "cpu",
    revision: str | None = None,
) -> Model:
    """The model in the folder, or of the hub id, `source`.

    dtype: of the weights; Bits quantises matrices, and makes float32 of what else there is. A folder whose weights are
    quantised is loaded as it is. Raises CheckpointError for whatever is missing, unused, damaged, unsafe or not
    supported, naming it.
    """
    folder = local_folder(source, revision)
    raw = read_config(folder)
    refuse_features(raw, model_types())
    family = family_for(raw["model_type"])
    config = family.config_from(raw)
    files = {name: path for name, path in tensor_files(folder).items() if not name.endswith(family.derived)}
    with shapes_only():
        model = family.build(config)
    if kept := quantised_in(raw):
        _refuse_other_bits(kept.bits, dtype, torch.device(device), folder)
        _refuse_strangers(parts_wanted(model, kept.bits).keys(), files.keys())
        fill_quantised(model, kept, files)
    elif isinstance(dtype, Bits):
        _fill(model, family, files, None, torch.device(device))
        model.origin = fingerprint(model)
        quantise_weights(model, dtype)
    else:
        _fill(model, family, files, dtype, torch.device(device))
    return model


def _refuse_other_bits(bits: Bits, wanted: torch.dtype | Bits, device: torch.device, folder: Path) -> None:
    if device.type != "cpu":
        raise CheckpointError(
            f"{folder} holds {bits.value} weights, which run on the CPU only: there, or for {device.type} load the"
            " checkpoint that they were made of"
        )
    if wanted not in (bits, torch.float32):  # float32 is what is asked for where nothing is
        asked = wanted.value if isinstance(wanted, Bits) else str(wanted).removeprefix("torch.")
        raise CheckpointError(
            f"{folder} holds {bits.value} weights: load them as they are, or make {asked} of the checkpoint that they"
            " were made of"
        )


def save_model(model: Model, folder: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write config.json and model.safetensors in Hugging Face's names, each whole or not at all.

    Raises OSError where they cannot be written.   dtype: what the weights are stored in; as they are if None.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    family = family_for(model.config.model_type)
    if bits := bits_of(model):
        assert dtype is None and model.origin is not None, "quantised weights are stored as they are"
        tensors = {name: part.contiguous() for name, part in plain(dict(model.named_parameters())).items()}
        said = Quantised(bits, model.origin).as_json()
    else:
        tensors = {
            name: weight.detach().to("cpu", dtype or weight.dtype).contiguous()
            for name, weight in stored(model, family, family.weight_name).items()
        }
        said = {"dtype": str(next(iter(tensors.values())).dtype).removeprefix("torch.")}
    config = json.dumps(family.config_to(model.config) | said, indent=2)
    with replacement(folder / SINGLE) as fresh:
        write_tensors(tensors, fresh, metadata={"format": "pt"})
    write_whole(folder / "config.json", config + "\n")


def _fill(
    model: Model, family: Family, files: dict[str, Path], dtype: torch.dtype | None, device: torch.device
) -> None:
    """Replace every parameter of a model on the meta device by its tensor, as `dtype`; None: as it is stored."""
    naming = naming_of(family, files)
    names = parameters_in(model, naming)
    shapes = {name: list(weight.shape) for name, weight in stored(model, family, naming).items()}
    duplicate = naming("head.weight")
    tied = model.config.tie_embeddings
    if tied and duplicate in files:
        shapes[duplicate] = shapes[naming("embed.weight")]
    _refuse_strangers(shapes.keys(), files.keys())
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
    if copy is not None and not torch.equal(copy.to(weight.dtype), weight):
        raise CheckpointError(
            "config.json ties head and embedding, but the stored head differs from the embedding"
        )
    model.head.register_parameter("weight", weight)


def _refuse_strangers(wanted: Set[str], found: Set[str]) -> None:
    _refuse("missing", wanted - found)
    _refuse("unused", found - wanted)


def _refuse(what: str, names: Collection[str]) -> None:
    if names:
        first = ", ".join(sorted(names)[:3])
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise CheckpointError(f"{what} in the checkpoint: {first}{more}")
