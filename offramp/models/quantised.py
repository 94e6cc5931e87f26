"""Models and exits whose matrices are quantised: which, how finely, and what stays as it is.

Every linear map's matrix is, and the embedding, whose rows are dequantised one at a time as tokens ask for them: tied
to the head it is one table, not two. Norms, convolutions, biases and decays are float32: they are small, and errors in
a decay add up over a text. So is a matrix of rows so short that they would grow, as they are padded to pairs of blocks,
and one of a single row (a gate's last map), which is a vector.

Under int4 what every token meets first and last, the embedding and the head, keeps 8 bits, and so do exits, whose word
decides about all blocks to come and which are hardly a share of the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import cast

import torch
from torch import Tensor, nn

from offramp.models.base import Model
from offramp.native.quantise import quantise, row_bytes
from offramp.native.quantised_weight import QuantisedWeight
from offramp.native.structures import I4, I8


class Bits(Enum):
    """Of a weight: 8 or 4, in blocks of 32 with a scale each."""

    INT8 = "int8"
    INT4 = "int4"


FORMATS = {Bits.INT8: I8, Bits.INT4: I4}
Place = tuple[nn.Module, str]
"""The module that has a parameter, and its name there."""
FINE = ("embed", "head")
"""Modules of a model that have 8 bits whatever the others have."""


def quantise_weights(module: nn.Module, bits: Bits) -> None:
    """A model's matrices, or exits', each in its place, one at a time; what else it has becomes float32.

    Raises CheckpointError naming a weight that is not finite.
    """
    formats = formats_of(module, bits)
    for name, at in places(module).items():
        put(_made(name, _parameter(at[0]).detach(), formats.get(name)), at)


def formats_of(module: nn.Module, bits: Bits) -> dict[str, int]:
    """How each of the parameters is kept that are quantised, by name. Values are not asked for."""
    embeddings = [module.embed] if isinstance(module, Model) else []
    found: dict[str, int] = {}
    for name, inner in module.named_modules(remove_duplicate=False):
        if type(inner) is nn.Linear or inner in embeddings:
            weight = cast(Tensor, inner.weight)
            format = FORMATS[bits] if isinstance(module, Model) and name not in FINE else I8
            if _smaller(weight, format):
                found[f"{name}.weight"] = format
    return found


def bits_of(module: nn.Module) -> Bits | None:
    """Of a model's or exits' matrices: the fewest that one has; None where none is quantised."""
    formats = {
        weight.quantised.format for weight in module.parameters() if isinstance(weight, QuantisedWeight)
    }
    return next((bits for bits, format in reversed(FORMATS.items()) if format in formats), None)


def left_out(module: nn.Module) -> tuple[str, ...]:
    """Linear maps of quantised modules whose matrices stayed float32, as it takes less: by name."""
    if bits_of(module) is None:
        return ()
    layers = ((name, inner) for name, inner in module.named_modules() if isinstance(inner, nn.Linear))
    return tuple(name for name, layer in layers if not isinstance(layer.weight, QuantisedWeight))


def number_format(model: Model) -> str:
    """In a word, as certificates name it: float32, bfloat16, int8, int4."""
    bits = bits_of(model)
    return bits.value if bits else str(next(model.parameters()).dtype).removeprefix("torch.")


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same by name, quantised weights as the tensors they are kept as: NAME.numbers, NAME.scales."""
    return {key: part for name, tensor in tensors.items() for key, part in _parts(name, tensor)}


def _parts(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(tensor, QuantisedWeight):
        yield name, tensor
        return
    yield f"{name}.numbers", tensor.quantised.numbers
    yield f"{name}.scales", tensor.quantised.scales


def places(module: nn.Module) -> dict[str, list[Place]]:
    """Where each parameter is, by its name; a shared one is in several places."""
    found: dict[int, tuple[str, list[Place]]] = {}
    for prefix, owner in module.named_modules():
        for attribute, weight in owner.named_parameters(recurse=False):
            name = f"{prefix}.{attribute}" if prefix else attribute
            found.setdefault(id(weight), (name, []))[1].append((owner, attribute))
    return dict(found.values())


def put(parameter: nn.Parameter, at: Sequence[Place]) -> None:
    for owner, attribute in at:
        setattr(owner, attribute, parameter)


def _parameter(place: Place) -> nn.Parameter:
    owner, attribute = place
    return cast(nn.Parameter, getattr(owner, attribute))


def _made(name: str, weight: Tensor, format: int | None) -> nn.Parameter:
    if format is None:
        return nn.Parameter(weight.float(), requires_grad=False)
    return nn.Parameter(QuantisedWeight(quantise(weight, format, name)), requires_grad=False)


def _smaller(weight: Tensor, format: int) -> bool:
    rows, columns = weight.shape
    return rows > 1 and row_bytes(columns, format) < columns * torch.float32.itemsize
