"""A quantised matrix in a parameter's place: modules use it as they use any weight.

It has the shape of the matrix and float32 for its type, which states and activations take over; its own numbers lie as
kernels read them. What modules do with a weight works: products, rows by index, `weight[begin:end]`, new tensors of its
type. Anything else that would need all of its numbers raises TypeError, so that none are made by mistake.

Shapes: N tokens, F rows, K columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.native.product import product
from offramp.native.quantise import QuantisedMatrix
from offramp.native.structures import Matrix


class QuantisedWeight(Tensor):
    """quantised: its numbers, with their scales."""

    quantised: QuantisedMatrix

    @staticmethod
    def __new__(cls, quantised: QuantisedMatrix) -> QuantisedWeight:
        shape, device = (len(quantised.scales), quantised.columns), quantised.scales.device
        made: QuantisedWeight = torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=torch.float32, device=device
        )
        return made

    def __init__(self, quantised: QuantisedMatrix) -> None:
        self.quantised = quantised

    def __repr__(self) -> str:  # type: ignore[override]
        return f"QuantisedWeight({list(self.shape)}, {self.quantised.name})"

    def matrix(self) -> Matrix:
        """As kernels read it, where it lies."""
        return self.quantised.matrix()

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _KNOWN:
            return _KNOWN[func](*args, **(kwargs or {}))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.detach.default:  # what makes it a parameter
            return cls(args[0].quantised)
        raise TypeError(f"{func} is not for quantised weights; `quantised.dequantised()` are their numbers")


def _linear(x: Tensor, weight: QuantisedWeight, bias: Tensor | None = None) -> Tensor:
    y = product(x, weight.quantised)
    return y if bias is None else y + bias


def _embedding(ids: Tensor, weight: QuantisedWeight, *_: Any, **__: Any) -> Tensor:
    """Rows by index: no others are dequantised."""
    return weight.quantised.picked(ids.flatten()).dequantised().view(*ids.shape, weight.quantised.columns)


def _rows(weight: QuantisedWeight, rows: slice | Tensor) -> QuantisedWeight:
    """Those that follow each other in the same memory, or a copy of those numbered."""
    if isinstance(rows, Tensor):
        return QuantisedWeight(weight.quantised.picked(rows))
    begin, end, step = rows.indices(len(weight))
    assert step == 1, "rows that follow each other"
    return QuantisedWeight(weight.quantised.rows(begin, end))


def _alike(name: str) -> Callable[..., Tensor]:
    """`weight.new_zeros` and its kin: they ask for type and device alone."""

    def made(weight: QuantisedWeight, *args: Any, **kwargs: Any) -> Tensor:
        return getattr(torch.empty(0, dtype=weight.dtype, device=weight.device), name)(*args, **kwargs)

    return made


def _empty_like(weight: QuantisedWeight, *, device: torch.device | str | None = None) -> QuantisedWeight:
    matrix = weight.quantised
    numbers, scales = (torch.empty_like(part, device=device) for part in (matrix.numbers, matrix.scales))
    return QuantisedWeight(QuantisedMatrix(numbers, scales, matrix.columns, matrix.format))


def _to(weight: QuantisedWeight, *args: Any, **kwargs: Any) -> QuantisedWeight:
    """Where it lies, and as it is."""
    wanted = torch._C._nn._parse_to(*args, **kwargs)[:2]
    if wanted[0] not in (None, weight.device) or wanted[1] not in (None, weight.dtype):
        raise TypeError("quantised weights stay where and as they are: load the model anew")
    return weight


def _refuse_address(weight: QuantisedWeight) -> int:
    raise TypeError("a quantised weight's numbers are not at one address; see `quantised`")


_NEW = ("new_zeros", "new_empty", "new_full", "new_ones", "new_tensor")
_KNOWN: dict[Any, Callable[..., Any]] = {
    F.linear: _linear,
    F.embedding: _embedding,
    torch.empty_like: _empty_like,
    Tensor.__getitem__: _rows,
    Tensor.index_select: lambda weight, _, rows: _rows(weight, rows),
    Tensor.to: _to,
    Tensor.data_ptr: _refuse_address,
    Tensor.nbytes.__get__: lambda weight: weight.quantised.bytes,  # type: ignore[attr-defined]
    **{getattr(Tensor, name): _alike(name) for name in _NEW},
}
