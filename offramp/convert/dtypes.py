"""Weights in another number format."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from offramp.convert.quantised import quantise
from offramp.convert.source import LazyTensor, Source
from offramp.errors import CheckpointError, UsageError
from offramp.models.quantised import Bits
from offramp.registry import unknown

NAMES: dict[str, torch.dtype | Bits] = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
NAMES |= {bits.value: bits for bits in Bits}


def cast(source: Source, name: str) -> Source:
    """The weights as f32, bf16, f16, int8 or int4. Raises UsageError for another name."""
    if name not in NAMES:
        raise UsageError(unknown("dtype", name, NAMES))
    wanted = NAMES[name]
    return quantise(source, wanted) if isinstance(wanted, Bits) else _rounded(source, wanted)


def _rounded(source: Source, wanted: torch.dtype) -> Source:
    """Every floating-point tensor rounded to nearest; the others stay.

    Exits stay as well, for they know their backbone by weights rounded to bfloat16; only f16 would round
    those twice. Reading raises CheckpointError where a finite value has none in the new type.
    """
    if wanted == torch.float16 and any(_changes(tensor, wanted) for tensor in source.tensors.values()):
        source = source.without_exits()
    tensors = {key: _cast(key, tensor, wanted) for key, tensor in source.tensors.items()}
    said = {
        key: str(wanted).removeprefix("torch.") for key in ("torch_dtype", "dtype") if key in source.config
    }
    return replace(source, tensors=tensors, config={**source.config, **said})


def _changes(tensor: LazyTensor, wanted: torch.dtype) -> bool:
    return tensor.dtype.is_floating_point and tensor.dtype != wanted


def _cast(name: str, tensor: LazyTensor, wanted: torch.dtype) -> LazyTensor:
    if not _changes(tensor, wanted):
        return tensor

    def read() -> Tensor:
        before = tensor.read()
        after = before.to(wanted)
        lost = int((torch.isinf(after) & torch.isfinite(before)).sum())
        if lost:
            raise CheckpointError(
                f"tensor {name} overflows: {lost} of its {after.numel():,} values are beyond"
                f" {torch.finfo(wanted).max:.4g}, the largest of {wanted}; bf16 reaches as far as f32"
            )
        return after

    return replace(tensor, dtype=wanted, read=read)
