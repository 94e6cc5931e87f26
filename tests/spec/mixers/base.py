"""The mixer contract (design 2): provisional tokens, commit, rollback, snapshot, export."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

Storage = Callable[..., Tensor]  # storage(*shape) -> a tensor with anything in it


def fresh(*shape: int) -> Tensor:
    """Storage of a row's own, full of NaN: whoever reads what was never written will show it."""
    return torch.full(shape, torch.nan, dtype=torch.float64)


class Mixer(ABC):
    """A sequence mixer; its state belongs to one row and holds final tokens, then provisional ones."""

    @abstractmethod
    def new_state(self, storage: Storage, max_len: int) -> Any:
        """An empty state, whatever the storage holds."""

    @abstractmethod
    def chunk(self, x_TD: Tensor, state: Any, positions: Sequence[int]) -> Tensor:
        """Decode T tokens, one after another; they are provisional afterwards. Returns [T, D]."""

    @abstractmethod
    def cell(self, x_TD: Tensor, state: Any, positions: Sequence[int]) -> Tensor:
        """One prompt cell in whole-cell arithmetic; its tokens are final at once. Returns [T, D]."""

    def advance(self, x_TD: Tensor, state: Any, positions: Sequence[int]) -> None:
        """Write the state of `chunk`; an engine saves the work of the output."""
        self.chunk(x_TD, state, positions)

    @abstractmethod
    def provisional(self, state: Any) -> int:
        """How many tokens are provisional."""

    @abstractmethod
    def commit(self, state: Any, n: int) -> None:
        """The first n provisional tokens become final, the others are forgotten."""

    @abstractmethod
    def rollback(self, state: Any, keep: int = 0) -> None:
        """Forget the provisional tokens after the first `keep`, exactly."""

    @abstractmethod
    def export(self, state: Any) -> list[Tensor]:
        """What can be observed of the final tokens: the truth two states are compared by."""


def snapshot(state: Any) -> Any:
    """A copy of a state that shares no memory with it."""
    return replace(state, **{f.name: _copy(getattr(state, f.name)) for f in fields(state)})


def restore(state: Any, saved: Any) -> None:
    """Make `state` what it was when `saved` was taken. Its tensors stay in their slot."""
    for f in fields(state):
        value = getattr(saved, f.name)
        if isinstance(value, Tensor):
            getattr(state, f.name).copy_(value)
        else:
            setattr(state, f.name, _copy(value))


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    return list(value) if isinstance(value, list) else value
