"""The propagation contract: what becomes, in the deeper layers, of a token that left (design section 1's table).

Two kinds: under `verify` and `defer` the token waits and deeper segments later take it in a chunk (exact state);
under the others deeper segments are settled at once, from what the exit knows.

Shapes: R rows, T tokens, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from offramp.mixers.base import Mixer, State


class Stateful(Protocol):
    """A block, gate or bridge: a mixer and what surrounds it."""

    mixer: Mixer

    def __call__(self, x_RTD: Tensor, state: State, rows: Sequence[int], n: Sequence[int], /) -> Tensor: ...

    def prefill(self, x_RTD: Tensor, state: State, rows: Sequence[int], /) -> Any: ...

    def advance(self, x_RTD: Tensor, state: State, rows: Sequence[int], n: Sequence[int], /) -> None: ...


@dataclass(frozen=True)
class Part:
    """A block, gate or bridge with its state over slots: one of those that share a segment's frontier."""

    module: Stateful
    state: State

    def __call__(self, x_RTD: Tensor, rows: Sequence[int], n: Sequence[int]) -> Tensor:
        return self.module(x_RTD, self.state, rows, n)

    def prefill(self, x_RTD: Tensor, rows: Sequence[int]) -> Any:
        return self.module.prefill(x_RTD, self.state, rows)

    def advance(self, x_RTD: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        self.module.advance(x_RTD, self.state, rows, n)

    def commit(self, rows: Sequence[int], n: Sequence[int]) -> None:
        self.module.mixer.commit(self.state, rows, n)

    def rollback(self, rows: Sequence[int], keep: int = 0) -> None:
        self.module.mixer.rollback(self.state, rows, keep)

    def reset(self, slot: int) -> None:
        self.module.mixer.reset(self.state, slot)


@dataclass(frozen=True)
class Stack:
    """What lies beyond an exit, in order of depth.

    deeper: the blocks whose state is still owed (without the last block where a `last_block` bridge has already
    made its entry) · listeners: the gates and bridges that have state.
    """

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
        """Give the deeper layers what tokens with hidden states h owe them. The engine commits afterwards."""
