"""Modules whose mixers are functions of tensors alone, sharing the weights of those they were made from.

Shapes: M tokens of a grid, D width.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar

from torch import Tensor, nn

from offramp.graphs.grid import Grid
from offramp.mixers.attention import Attention
from offramp.mixers.base import Mark, State
from offramp.mixers.mamba import Mamba
from offramp.mixers.mamba2 import Mamba2


class Static(nn.Module, ABC):
    """A mixer with its state: a twin has it in the mixer's place, and hands it a grid where a state was.

    rows, n: nothing; the grid says it all.
    """

    remembers: ClassVar[bool] = True
    mixer: Attention | Mamba | Mamba2
    state: State

    def claim(self, rows: Sequence[int], n: Sequence[int]) -> list[Mark]:
        """Room for the next n[i] provisional tokens of slot rows[i], still to be written: where they stand."""
        return self.mixer.claim(self.state, rows, n)

    @abstractmethod
    def forward(self, x_MD: Tensor, grid: Grid, rows: Sequence[int], n: Sequence[int]) -> Tensor:
        """As the mixer's own with a state; the entries or inputs stand where the grid says."""

    @abstractmethod
    def advance(self, x_MD: Tensor, grid: Grid, rows: Sequence[int], n: Sequence[int]) -> None:
        """Write the state as `forward` does and skip the output."""

    def renew(self, slot: int) -> None:
        """The slot begins a new sequence: what it holds must be numbers. Most hold nothing else after a reset."""


def twin(module: nn.Module, statics: Sequence[Static]) -> Any:
    """The module over static mixers in the place of its own. The weights are the same tensors."""
    shared: dict[int, Any] = {id(weight): weight for weight in chain(module.parameters(), module.buffers())}
    return copy.deepcopy(module, shared | {id(static.mixer): static for static in statics})
