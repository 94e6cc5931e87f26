"""The blocks between two exits, with the exit that ends them: what shares a frontier, and how tokens go through it.

Shapes: N tokens of all rows in this call, packed, S slots, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from offramp.engine.ring import Ring
from offramp.exits.base import Exit
from offramp.propagation.base import Part


@dataclass(frozen=True)
class Segment:
    """exit, gate and bridge: None in the last segment. ring: the hidden states still to be taken in."""

    blocks: tuple[Part, ...]
    exit: Exit | None
    gate: Part | None
    bridge: Part | None
    ring: Ring

    @property
    def listeners(self) -> tuple[Part, ...]:
        """The gate and the bridge where they remember anything."""
        both = (self.gate, self.bridge)
        return tuple(part for part in both if part and part.module.mixer.remembers)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Everything with state that shares this frontier."""
        return self.blocks + self.listeners

    def frontier(self, slot: int) -> int:
        """How many of the slot's tokens this segment has settled."""
        return self.blocks[0].state.next_position(slot)

    def through(self, x_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """The next n[i] tokens of slot rows[i] through blocks, gate and bridge: hidden states, gate logits, bridged
        hidden states. There may be padding behind the tokens; it is dropped."""
        count = sum(n)
        for block in self.blocks:
            x_ND = block(x_ND, rows, n)
        if self.exit is None or self.gate is None or self.bridge is None:
            return x_ND[:count], x_ND[:0], x_ND[:0]
        self.gate.count("run", rows, n)  # and the bridge's with it: they may share what they read
        gate_N, bridged_ND = self.exit(x_ND, self.gate.state, self.bridge.state, rows, n)
        return x_ND[:count], gate_N[:count], bridged_ND[:count]

    def commit(self, rows: Sequence[int], n: Sequence[int]) -> None:
        """The first n[i] provisional tokens of slot rows[i] are final; the others are forgotten."""
        for part in self.parts if rows else ():
            part.commit(rows, n)

    def commit_all(self, rows: Sequence[int]) -> None:
        """All provisional tokens of these slots are final; of a block that was skipped there may be none."""
        found = {tuple(part.state.provisional[slot] for slot in rows) for part in self.parts}
        if len(found) == 1:
            self.commit(rows, found.pop())
            return
        for part in self.parts:
            part.commit(rows, [part.state.provisional[slot] for slot in rows])
