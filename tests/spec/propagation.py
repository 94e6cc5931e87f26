"""What becomes, in the deeper segments, of a token that left (design 1's table)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from .mixers import Attention
from .mixers.attention import rotate

if TYPE_CHECKING:
    from .model import Block
    from .row import Row


class Propagation:
    """`waits`: the token stays pending. `judged`: it is a draft, and the last segment decides."""

    waits = False
    judged = False

    def after_exit(self, row: Row, e: int, h_D: Tensor) -> None:
        """The newest token has left at exit e with hidden state h."""
        raise NotImplementedError


class Defer(Propagation):
    """It waits in the next segment's ring, where pushing has put it."""

    waits = True

    def after_exit(self, row: Row, e: int, h_D: Tensor) -> None:
        pass


class Verify(Defer):
    judged = True


class SettleAtOnce(Propagation):
    """The deeper segments get what the exit knows, and count the token as settled."""

    def after_exit(self, row: Row, e: int, h_D: Tensor) -> None:
        row.ring[e + 1] = []
        for block in self._deeper_blocks(row, e):
            self.enter(row, e, block, h_D)
        self.tell_listeners(row, e, h_D)
        for s in range(e + 1, len(row.frontier)):
            for part in row.model.segments[s].parts:
                part.mixer.commit(row.states[part], part.mixer.provisional(row.states[part]))
            row.frontier[s] = row.frontier[e]
        row.tail = 0  # what last_block left in the last block IS the token's state there

    def enter(self, row: Row, e: int, block: Block, h_D: Tensor) -> None:
        """What one deeper block gets. Here nothing (`skip`): the token only uses its position."""

    def tell_listeners(self, row: Row, e: int, h_D: Tensor) -> None:
        """What deeper gates and bridges get."""

    def _deeper_blocks(self, row: Row, e: int) -> list[Block]:
        exit = row.model.exits[e]
        deeper = row.model.blocks[exit.after :]
        return deeper[:-1] if exit.bridge.borrows_last_block else deeper


class Skip(SettleAtOnce):
    pass


class Project(SettleAtOnce):
    """Own norm and weights on the exit's hidden state, output skipped; deeper gates and bridges hear it."""

    def enter(self, row: Row, e: int, block: Block, h_D: Tensor) -> None:
        block.advance(h_D[None], row.states[block], [_position(row, e)])

    def tell_listeners(self, row: Row, e: int, h_D: Tensor) -> None:
        for segment in row.model.segments[e + 1 :]:
            for listener in segment.listeners:
                listener.run(h_D[None], row.states[listener], [_position(row, e)])


class CopyBlock(SettleAtOnce):
    """Keys and values of the nearest attention block at or before the exit; without one, as `skip`."""

    def enter(self, row: Row, e: int, block: Block, h_D: Tensor) -> None:
        above = row.model.blocks[: row.model.exits[e].after]
        sources = [source for source in above if isinstance(source.mixer, Attention)]
        if sources and isinstance(block.mixer, Attention):
            state = row.states[sources[-1]]
            newest = len(state.entries) - 1
            key, value = state.keys[newest], state.values[newest]
            block.mixer.append(row.states[block], key, value, _position(row, e), own=False)


class CopyToken(SettleAtOnce):
    """The last entry the block computed itself, its key turned once by the whole distance."""

    def enter(self, row: Row, e: int, block: Block, h_D: Tensor) -> None:
        if not isinstance(block.mixer, Attention):
            return
        state, position = row.states[block], _position(row, e)
        source = max(i for i, entry in enumerate(state.entries) if entry.own)
        distance = position - state.entries[source].position
        key = rotate(state.keys[source], distance, block.mixer.theta)
        block.mixer.append(state, key, state.values[source], position, own=False)


def _position(row: Row, e: int) -> int:
    """The newest token's place in the sequence; positions go on whoever has seen it."""
    return row.frontier[e] - 1


PROPAGATIONS: dict[str, Propagation] = {
    "verify": Verify(),
    "defer": Defer(),
    "project": Project(),
    "copy_block": CopyBlock(),
    "copy_token": CopyToken(),
    "skip": Skip(),
}
