"""How much memory tensors take while something runs, counted as they come and go: on any device, without its tools."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Within the block, every storage that an operation makes is counted until it is freed.

    peak: most bytes alive at once. What was there before does not count, nor what an operation needs within itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._alive = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = {_key(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, Tensor) and _key(value) not in given | self._known:
                self._count(value)
        return made

    def _count(self, value: Tensor) -> None:
        storage, key = value.untyped_storage(), _key(value)
        self._known.add(key)
        self._alive += storage.nbytes()
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._forget, key, storage.nbytes()).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._alive -= size


def _key(value: Tensor) -> int:
    """The same for all tensors that share memory."""
    return value.untyped_storage()._cdata


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Of all of them, shared memory counted once."""
    return sum({_key(value): value.untyped_storage().nbytes() for value in tensors}.values())
