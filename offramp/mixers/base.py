"""The mixer contract: how a layer moves information between tokens, and what it remembers of them.

Shapes: R rows, T tokens of each, N tokens of all rows in this call, packed, S slots, D width, H heads, K head dim,
E inner width, W conv window.

A slot's tokens are first *provisional*, then final. `forward` with a state and `advance` append provisional
tokens; `commit` makes the first n final and forgets the others; `rollback` forgets all after the first `keep`.
A prompt cell (`prefill`) is final at once. Positions belong to the state, because a token that a layer never saw
(propagation `skip`) still occupies its place in the sequence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from torch import Generator, Tensor, nn

RUN_LIMIT = 16
"""Most provisional tokens a slot can hold: a chunk is at most run_max + 1 <= 16 (design: run_max at most 15)."""

CELL = 256
"""Most tokens of a prompt cell, the largest chunk there is. Prompts are cut on this fixed grid from position 0; load
decides how many cells run, never where they are cut."""


class Mark(NamedTuple):
    """Where a row's next tokens stand in a state: what the kernels are told of it.

    place: attention: where the first new entry lies in the slot's memory; recurrences: tokens on its tape already.
    position: of the first new token. source, target: recurrences: which of the 2 S states is read, and which written.
    """

    place: int
    position: int
    source: int = 0
    target: int = 0


@dataclass
class State:
    """What a mixer remembers, over slots. Subclasses add named tensors `[S, ...]`.

    position[slot] counts the final tokens, so it is the next token's position when nothing is provisional.
    provisional[slot] counts the tokens pushed since.
    """

    slots: int
    position: list[int] = field(init=False)
    provisional: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.position = [0] * self.slots
        self.provisional = [0] * self.slots

    def next_position(self, slot: int) -> int:
        return self.position[slot] + self.provisional[slot]

    def skip(self, rows: Sequence[int], n: Sequence[int]) -> None:
        """n[i] tokens of slot rows[i] pass unseen: their positions are used up, nothing else changes."""
        for slot, count in zip(rows, n, strict=True):
            assert self.provisional[slot] == 0, "a token can be skipped only when nothing is provisional"
            self.position[slot] += count


class Mixer(nn.Module, ABC):
    """Mixes along the sequence: attention, Mamba-2, yours.

    Decoding is packed: `rows` are slot numbers, ascending, and row i's n[i] >= 1 tokens follow those of row i - 1 in
    x_ND. What lies behind the last is padding: its outputs mean nothing and it may hold anything, NaN included.
    Whole sequences and prompt cells are `[R, T, D]`.
    remembers: a token's output depends on those before it; without that there is nothing to mix or to settle.
    """

    remembers: ClassVar[bool] = True

    def init_weights(self, generator: Generator) -> None:
        """First weights that are not those of every map, for training from scratch; called without gradients.

        Before it every parameter was drawn from a normal distribution, narrower where its name ends in
        `o_proj.weight` or `out_proj.weight`, and biases were set to zero (`models.initial`).
        """

    @abstractmethod
    def init_state(self, slots: int, max_len: int) -> State:
        """Empty state for `slots` sequences of at most `max_len` tokens, on the parameters' device and dtype."""

    @abstractmethod
    def reset(self, state: State, slot: int) -> None:
        """Slot begins a new sequence. Nothing of its former owner may be seen again."""

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        """Outputs in the shape of x. Without a state: whole sequences `[R, T, D]` from position 0, differentiable
        (training, oracles).

        With one: packed `[N, D]`, the next n[i] tokens of slot rows[i], in token order, appended as provisional.
        """

    @abstractmethod
    def prefill(self, x_RTD: Tensor, state: State, rows: Sequence[int]) -> Tensor:
        """A prompt cell: T tokens a row in the parallel form, final at once. Needs nothing provisional."""

    def prefill_last(self, x_RTD: Tensor, state: State, rows: Sequence[int], last: int) -> Tensor:
        """A prompt cell as `prefill` takes it, of which only the outputs `[R, last, D]` of the last so many tokens are
        wanted: none where the state is all. A mixer that can make fewer makes no others."""
        return self.prefill(x_RTD, state, rows)[:, x_RTD.shape[1] - last :]

    @abstractmethod
    def advance(self, x_ND: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        """Write the state as `forward` does and skip the output: what a token that left still owes this layer."""

    @property
    def entry_kind(self) -> Hashable | None:
        """Mixers of one kind can take over each other's entries. None: this one keeps no entries, it has one state."""
        return None

    def copy_entries(self, state: State, rows: Sequence[int], n: Sequence[int], source: State) -> None:
        """Append, provisional, what a mixer of this `entry_kind` holds of its newest n[i] tokens in slot rows[i].

        Without entries the tokens pass unseen.
        """
        state.skip(rows, n)

    def repeat_entry(self, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        """Append, provisional, n[i] times the last entry that was not copied, moved to the tokens' positions.

        Without such an entry the tokens pass unseen.
        """
        state.skip(rows, n)

    @abstractmethod
    def commit(self, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        """The first n[i] provisional tokens of slot rows[i] become final; the others are forgotten."""

    @abstractmethod
    def rollback(self, state: State, rows: Sequence[int], keep: int = 0) -> None:
        """Forget the provisional tokens after the first `keep`, exactly as if they had never been."""

    @abstractmethod
    def snapshot(self, state: State, row: int, since: int = 0) -> dict[str, Tensor]:
        """A copy of the slot's final state. Needs nothing provisional.

        since: entries before this number are left out, because an earlier snapshot of the sequence holds them.
        """

    @abstractmethod
    def restore(self, state: State, row: int, saved: dict[str, Tensor]) -> None:
        """Give the slot the state that `snapshot` returned; it continues bit for bit.

        A snapshot `since` some entry is given after the one that ended there.
        """
