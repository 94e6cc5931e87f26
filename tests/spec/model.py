"""A model is data: embed, blocks, norm, head, exits. Segments are its blocks cut at the exits (design 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from torch import Tensor

from .layers import Linear, RMSNorm, SwiGLU, per_token
from .mixers import Mixer, Storage

if TYPE_CHECKING:
    from .exits import BlockBridge, Exit, Gate

    Part: TypeAlias = "Block | Gate | BlockBridge"  # what has state
    States = dict[Part, Any]


@dataclass(eq=False)
class Block:
    """norm -> mixer -> residual, then norm -> mlp -> residual where there is an MLP."""

    norm: RMSNorm
    mixer: Mixer
    mlp_norm: RMSNorm | None = None
    mlp: SwiGLU | None = None

    def run(self, x_TD: Tensor, state: Any, positions: Sequence[int], cell: bool = False) -> Tensor:
        """Decoding takes one token after another, a prompt cell all of its tokens at once."""
        if cell:
            return self._mlp(x_TD + self.mixer.cell(self.norm(x_TD), state, positions))
        mixed_TD = self.mixer.chunk(per_token(self.norm, x_TD), state, positions)
        return per_token(self._mlp, x_TD + mixed_TD)

    def advance(self, x_TD: Tensor, state: Any, positions: Sequence[int]) -> None:
        """The mixer's state from the block's own norm of x, and nothing else."""
        self.mixer.advance(per_token(self.norm, x_TD), state, positions)

    def _mlp(self, x: Tensor) -> Tensor:
        if self.mlp is None or self.mlp_norm is None:
            return x
        return x + self.mlp(self.mlp_norm(x))


class Passed(NamedTuple):
    """What a chunk becomes in a segment, and its newest token's gate value and bridged hidden state."""

    entering_TD: Tensor
    x_TD: Tensor
    gate: float | None
    bridged_D: Tensor | None


@dataclass(eq=False)
class Segment:
    """Blocks, and their exit's gate and bridge: whatever shares one frontier."""

    blocks: list[Block]
    exit: Exit | None

    @property
    def parts(self) -> list[Part]:
        """Everything here that has state."""
        return [*self.blocks, *self.listeners]

    @property
    def listeners(self) -> list[Part]:
        """The gate and the bridge, where they have state."""
        around = [] if self.exit is None else [self.exit.gate, self.exit.bridge]
        return [part for part in around if part.mixer is not None]

    def run(self, x_TD: Tensor, states: States, positions: Sequence[int], cell: bool = False) -> Passed:
        entering_TD = x_TD
        for block in self.blocks:
            x_TD = block.run(x_TD, states[block], positions, cell)
        if self.exit is None:
            return Passed(entering_TD, x_TD, None, None)
        gate, bridge = self.exit.gate, self.exit.bridge
        value = gate.run(x_TD, states.get(gate), positions, cell)
        return Passed(entering_TD, x_TD, value, bridge.run(x_TD, states.get(bridge), positions, cell))

    def export(self, states: States) -> list[list[Tensor]]:
        return [part.mixer.export(states[part]) for part in self.parts]


@dataclass(eq=False)
class Model:
    embed: Tensor  # [V, D]
    blocks: list[Block]
    norm: RMSNorm
    head: Linear  # [V, D]
    exits: list[Exit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cut(self.exits)

    def cut(self, exits: Sequence[Exit]) -> None:
        """Put exits, in order of depth, on this backbone."""
        self.exits = list(exits)
        last = len(self.blocks)
        for exit in self.exits:
            useless = exit.bridge.borrows_last_block and exit.after == last - 1
            assert 0 < exit.after < last and not useless, "an exit must save something"
        edges = [0, *(exit.after for exit in self.exits), last]
        assert edges == sorted(set(edges)), "exits in order of depth"
        spans = zip(edges[:-1], edges[1:], [*self.exits, None], strict=True)
        self.segments = [Segment(self.blocks[start:stop], exit) for start, stop, exit in spans]

    def new_states(self, storage: Storage, max_len: int) -> States:
        """Empty states for one row, always asking `storage` in the same order."""
        parts = [part for segment in self.segments for part in segment.parts]
        return {part: part.mixer.new_state(storage, max_len) for part in parts}

    def logits(self, hidden_D: Tensor) -> Tensor:
        return self.head(self.norm(hidden_D))

    def export(self, states: States) -> list[list[list[Tensor]]]:
        """The observable state, by segment, part and tensor."""
        return [segment.export(states) for segment in self.segments]
