"""The propagation contract: what becomes, in the deeper layers, of a token that left (design section 1's table).

Two kinds: under `verify` and `defer` the token waits and deeper segments later take it in a chunk (exact state);
under the others deeper segments are settled at once, from what the exit knows.

Shapes: R rows, T tokens of each, N tokens of all rows in this call, packed (see `Mixer`), D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor

from offramp.mixers.base import Mixer, State


class Stateful(Protocol):
    """A block, gate or bridge: a mixer and what surrounds it."""

    mixer: Mixer

    def __call__(self, x_ND: Tensor, state: State, rows: Sequence[int], n: Sequence[int], /) -> Tensor: ...

    def prefill(self, x_RTD: Tensor, state: State, rows: Sequence[int], /) -> Any: ...

    def advance(self, x_ND: Tensor, state: State, rows: Sequence[int], n: Sequence[int], /) -> None: ...


@dataclass(frozen=True)
class Work:
    """What a part has done for one sequence, prompts apart: passes and tokens of each verb that costs anything.

    The verbs are "run" (a forward), "advance", "copy_entries" and "repeat_entry".
    """

    passes: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Part:
    """A block, gate or bridge with its state over slots: one of those that share a segment's frontier.

    work[slot] is what it has done for the slot's sequence.
    """

    module: Stateful
    state: State
    work: list[Work] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.work.extend(Work() for _ in range(self.state.slots))

    @property
    def keeps_entries(self) -> bool:
        return self.module.mixer.entry_kind is not None

    def __call__(self, x_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> Tensor:
        self.count("run", rows, n)
        return self.module(x_ND, self.state, rows, n)

    def prefill(self, x_RTD: Tensor, rows: Sequence[int]) -> Any:
        return self.module.prefill(x_RTD, self.state, rows)

    def advance(self, x_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        self.count("advance", rows, n)
        self.module.advance(x_ND, self.state, rows, n)

    def skip(self, rows: Sequence[int], n: Sequence[int]) -> None:
        self.state.skip(rows, n)

    def copy_entries(self, rows: Sequence[int], n: Sequence[int], source: Part) -> None:
        """See `Mixer.copy_entries`."""
        if self.keeps_entries:
            self.count("copy_entries", rows, n)
        self.module.mixer.copy_entries(self.state, rows, n, source.state)

    def repeat_entry(self, rows: Sequence[int], n: Sequence[int]) -> None:
        """See `Mixer.repeat_entry`."""
        if self.keeps_entries:
            self.count("repeat_entry", rows, n)
        self.module.mixer.repeat_entry(self.state, rows, n)

    def commit(self, rows: Sequence[int], n: Sequence[int]) -> None:
        self.module.mixer.commit(self.state, rows, n)

    def rollback(self, rows: Sequence[int], keep: int = 0) -> None:
        self.module.mixer.rollback(self.state, rows, keep)

    def reset(self, slot: int) -> None:
        self.work[slot] = Work()
        self.module.mixer.reset(self.state, slot)

    def count(self, verb: str, rows: Sequence[int], n: Sequence[int]) -> None:
        """Note one pass of a verb over n[i] tokens of slot rows[i]."""
        for slot, count in zip(rows, n, strict=True):
            self.work[slot].passes[verb] += 1
            self.work[slot].tokens[verb] += count


@dataclass(frozen=True)
class Stack:
    """What lies around an exit, in order of depth.

    shallower: the blocks the token has been through · deeper: the blocks whose state is still owed (without the last
    block where a `last_block` bridge has already made its entry) · listeners: the gates and bridges that have state.
    """

    shallower: tuple[Part, ...]
    deeper: tuple[Part, ...]
    listeners: tuple[Part, ...]

    def advance(self, h_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        """All deeper parts and listeners take in the hidden states and give nothing out; see `Mixer.advance`."""
        for part in (*self.deeper, *self.listeners):
            part.advance(h_ND, rows, n)


class Propagation(ABC):
    """`waits`: the token stays pending and deeper segments take it later, in a chunk.

    `judged`: what waits is a draft; the last segment alone decides and everything else rolls back.
    """

    waits: ClassVar[bool] = False
    judged: ClassVar[bool] = False

    def check(self, mixers: Sequence[Mixer], after: Sequence[int]) -> None:  # noqa: B027  (most serve all blocks)
        """Raises UsageError where blocks with these mixers, exits after these numbers of them, cannot be served."""

    @abstractmethod
    def after_exit(self, stack: Stack, h_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        """Give the deeper layers what tokens with hidden states h owe them: n[i] of slot rows[i], packed, with padding
        behind them. The engine commits afterwards."""
