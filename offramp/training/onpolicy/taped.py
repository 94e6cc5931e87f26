"""A gate that keeps what it hears.

Shapes: R rows, T tokens of each, N packed tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from offramp.exits.base import Exit, Gate
from offramp.exits.exit_set import ExitSet
from offramp.exits.trunk import Trunk
from offramp.mixers.base import Mixer, State
from offramp.mixers.identity import Identity


class Listening(Identity):
    """Counts tokens, and is told of all of them: prompts, and tokens that left before."""

    remembers: ClassVar[bool] = True


class Taped(Gate):
    """Says what `gate` says, and notes the hidden states it is given, by position; of one slot.

    Whatever the propagation, heard is what the gate goes by: a position that is heard again after a rollback takes
    the place of the first hearing, and one that passes unseen is not there.
    """

    def __init__(self, gate: Gate) -> None:
        Trunk.__init__(self)  # the bare one: the gate has the weights
        self.gate = gate
        self.mixer = gate.mixer if gate.mixer.remembers else Listening()
        self.heard: dict[int, Tensor] = {}

    def make_mixer(self, width: int) -> Mixer:
        return self.mixer

    def read(
        self,
        h: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        if state is not None and rows is not None and n is not None:
            self._note(h, state, rows, n)
        return self.gate.read(h, state, rows, n)

    def value(self, y: Tensor) -> Tensor:
        return self.gate.value(y)

    def prefill(self, h_RTD: Tensor, state: State, rows: Sequence[int]) -> None:
        self._note(h_RTD[0], state, rows, [h_RTD.shape[1]])
        self.gate.prefill(h_RTD, state, rows)

    def advance(self, h_ND: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        self._note(h_ND, state, rows, n)
        self.gate.advance(h_ND, state, rows, n)

    def _note(self, h_ND: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        [slot], [count] = rows, n
        first = state.next_position(slot)
        self.heard |= {first + t: h_ND[t].clone() for t in range(count)}

    def played(self, end: int) -> tuple[list[int], Tensor]:
        """The positions before `end` that were heard, ascending, and their hidden states `[T, D]`."""
        positions = sorted(position for position in self.heard if position < end)
        return positions, torch.stack([self.heard[position] for position in positions])


def taped(exits: ExitSet) -> list[Exit]:
    """The exits, sharing their weights, each with a tape."""
    return [Exit(item.after, Taped(item.gate), item.bridge, item.short_list) for item in exits]
