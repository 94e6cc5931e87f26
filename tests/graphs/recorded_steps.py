"""What a CUDA graph does, on a CPU: a step's operations are recorded once, and done again to the same memory.

So whatever Python decides, counts or reads when it is recorded stays as it was. What no graph can hold is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from offramp.graphs.program import Graphs, Step

HOST = {
    "_local_scalar_dense",
    "nonzero",
    "is_nonzero",
    "equal",
    "masked_select",
    "lift_fresh",
    "item",
    "tolist",
}
"""Operations that wait for the device, or bring numbers from the host."""


class Recorder(TorchDispatchMode):
    """calls: each operation with its arguments and what it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        assert name not in HOST, f"{name} cannot be captured"
        given = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, list(tensors(given))))
        return given


def tensors(nested: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor))


class RecordedStep:
    """The first call runs the step for good and records it; later ones replay it. replays: how many there were."""

    def __init__(self, step: Step) -> None:
        self.step, self.recorder, self.replays = step, Recorder(), 0

    def __call__(self) -> None:
        if not self.recorder.calls:
            with self.recorder:
                self.step()
            return
        self.replays += 1
        for func, args, kwargs, given in self.recorder.calls:
            inputs = {x.untyped_storage().data_ptr() for x in tensors((args, kwargs))}
            if func._schema.is_mutable:
                func(*args, **kwargs)
            elif not any(x.untyped_storage().data_ptr() in inputs for x in given):  # a view is what it was
                for x, value in zip(given, tensors(func(*args, **kwargs)), strict=True):
                    x.copy_(value)


def recorded() -> tuple[Graphs, list[RecordedStep]]:
    """Graphs of that kind, and all that are made."""
    made: list[RecordedStep] = []

    def prepare(step: Step) -> Step:
        made.append(RecordedStep(step))
        return made[-1]

    return Graphs(torch.device("cpu"), prepare), made
