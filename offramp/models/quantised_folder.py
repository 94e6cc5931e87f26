"""Checkpoint folders of quantised weights: they lie there as kernels read them, and are mapped, not made again.

config.json is that of the original, with a field that says what was done to it. The tensors bear our parameters' names,
whatever the family's are in Hugging Face's layout: nothing there fits in one of its tensors any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import CheckpointError
from offramp.models.base import Model
from offramp.models.folder import OURS
from offramp.models.quantised import Bits, formats_of, places, put
from offramp.models.tensors import open_tensors
from offramp.native.quantise import QuantisedMatrix, shapes
from offramp.native.quantised_weight import QuantisedWeight

FIELD = "quantization_config"
"""Of config.json, by the name at which other programs look before they read on."""


@dataclass(frozen=True)
class Quantised:
    """bits: of most matrices. origin: the fingerprint of the weights that these were made of."""

    bits: Bits
    origin: str

    def as_json(self) -> dict[str, Any]:
        return {FIELD: {"quant_method": OURS, "format": self.bits.value, "origin": self.origin}}


def quantised_in(raw: Mapping[str, Any]) -> Quantised | None:
    """What config.json says of it; None where the weights are not quantised by us."""
    said = raw.get(FIELD)
    if not isinstance(said, dict) or said.get("quant_method") != OURS:
        return None
    format, origin = said.get("format"), said.get("origin")
    known = [bits.value for bits in Bits]
    if format not in known or not isinstance(origin, str):
        raise CheckpointError(
            f"config.json: {FIELD} must have an origin and a format of {' or '.join(known)}, not {format!r}"
        )
    return Quantised(Bits(format), origin)


def refuse_quantised(raw: Mapping[str, Any], folder: Path) -> None:
    """Raises CheckpointError where the folder's weights are quantised: they are not the ones to start from."""
    if found := quantised_in(raw):
        raise CheckpointError(
            f"{folder} holds {found.bits.value} weights, which only run: use the checkpoint that it was made of"
        )


def parts_wanted(model: Model, bits: Bits) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of the tensors that a folder of this model has, by name."""
    formats = formats_of(model, bits)
    wanted: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for name, weight in model.named_parameters():
        if name not in formats:
            wanted[name] = tuple(weight.shape), torch.float32
            continue
        rows, columns = weight.shape
        wanted |= {f"{name}.{part}": of for part, of in shapes(rows, columns, formats[name]).items()}
    return wanted


def fill_quantised(model: Model, quantised: Quantised, files: Mapping[str, Path]) -> None:
    """Give a model on the meta device its weights. files: those of the tensors that it wants, and of no others.

    Raises CheckpointError naming a tensor that does not fit.
    """
    formats, found = formats_of(model, quantised.bits), _read(parts_wanted(model, quantised.bits), files)
    for name, at in places(model).items():
        weight = (
            found[name] if name not in formats else _matrix(model.get_parameter(name), name, found, formats)
        )
        put(nn.Parameter(weight, requires_grad=False), at)
    model.origin = quantised.origin


def _matrix(
    meta: Tensor, name: str, found: Mapping[str, Tensor], formats: Mapping[str, int]
) -> QuantisedWeight:
    parts = found[f"{name}.numbers"], found[f"{name}.scales"]
    return QuantisedWeight(QuantisedMatrix(*parts, meta.shape[1], formats[name]))


def _read(
    wanted: Mapping[str, tuple[Iterable[int], torch.dtype]], files: Mapping[str, Path]
) -> dict[str, Tensor]:
    """Mapped from the files."""
    found: dict[str, Tensor] = {}
    for path in sorted(set(files.values())):
        with open_tensors(path) as file:
            for name in (name for name in wanted if files[name] == path):
                found[name] = _checked(file.get_tensor(name), path, name, *wanted[name])
    return found


def _checked(tensor: Tensor, path: Path, name: str, shape: Iterable[int], dtype: torch.dtype) -> Tensor:
    if list(tensor.shape) != list(shape) or tensor.dtype != dtype:
        raise CheckpointError(
            f"{path}: tensor {name} is {tensor.dtype} of shape {list(tensor.shape)}, config.json asks for {dtype} of"
            f" {list(shape)}"
        )
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise CheckpointError(f"{path}: tensor {name} holds NaN or infinite values")
    return tensor
