"""The propagation contract: what becomes, in the deeper layers, of a token that left (design section 1's table).

Two kinds: under `verify` and `defer` the token waits and deeper segments later take it in a chunk (exact state);
under the others deeper segments are settled at once, from what the exit knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from offramp.mixers.base import State


class Advances(Protocol):
    """A block, gate or bridge: what can take a token's hidden state without giving an output."""

    def advance(self, x_RTD: Tensor, state: State, rows: Sequence[int], n: Sequence[int], /) -> None: ...


@dataclass(frozen=True)
class Part:
    """A module and its state over slots: whatever shares a segment's frontier."""

    module: Advances
    state: State

    def advance(self, x_RTD: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        self.module.advance(x_RTD, self.state, rows, n)


@dataclass(frozen=True)
class Stack:
    """An exit's surroundings, in order of depth.

    shallower: the blocks up to the exit · deeper: the blocks after it whose state is still owed (without the last
    block where a `last_block` bridge has already made its entry) · listeners: the deeper gates and bridges.
    """

    shallower: tuple[Part, ...]
    deeper: tuple[Part, ...]
    listeners: tuple[Part, ...]


class Propagation(ABC):
    """`waits`: the token stays pending and deeper segments take it later, in a chunk.

    `judged`: what waits is a draft; the last segment alone decides and everything else rolls back.
    """

    waits: ClassVar[bool] = False
    judged: ClassVar[bool] = False

    @abstractmethod
    def after_exit(self, stack: Stack, h_RTD: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        """Give the deeper layers what a token with hidden state h owes them. Everything is provisional:
        the engine commits."""
