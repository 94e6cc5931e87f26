"""What was computed of prompts and can serve again: cells of the fixed grid, and whole prompts of several samples.

Prompts are cut into cells from position 0, whatever the load, so a cell's memory (keys and values, SSM states, those
of gates and bridges) is a function of the tokens up to its end alone: giving it back changes no bit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

from torch import Tensor

from offramp.engine.frontier import Frontier, Saved
from offramp.engine.sequence import Request
from offramp.engine.sequence import Sequence as Row
from offramp.mixers.base import CELL


class Prompts:
    """The memory of prompt cells, at most `limit` bytes; what was used longest ago goes first.

    A cell's key is its tokens and all before them, with the request's salt. All else that its memory depends on
    (model, exits, dtype, tier) is the engine's, and so is this object.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = self.hits = 0
        self._cells: OrderedDict[bytes, Saved] = OrderedDict()

    def recall(self, frontier: Frontier, row: Row) -> Tensor | None:
        """Give the row's fresh slot what is known of its prompt. The logits after it, where all of it is known.

        Of the grid at most the cells before the last token are taken: its logits are wanted.
        """
        shared = row.shared
        if shared is not None and shared.saved is not None:
            frontier.restore(row.slot, shared.saved)
            row.prefilled = len(row.request.prompt)
            return shared.logits_V
        for key in self._keys(row.request)[: (len(row.request.prompt) - 1) // CELL]:
            if key not in self._cells:
                break
            self._cells.move_to_end(key)
            frontier.restore(row.slot, self._cells[key])
            row.prefilled += CELL
            self.hits += 1
        return None

    def keep(self, frontier: Frontier, row: Row, logits_V: Tensor) -> None:
        """Remember the cell that the row has just run, and the whole prompt where other samples wait for it."""
        if row.shared is not None and row.prompted:
            row.shared.saved, row.shared.logits_V = frontier.snapshot(row.slot), logits_V
        if row.prefilled % CELL == 0 and self.limit:
            key = self._keys(row.request)[row.prefilled // CELL - 1]
            if key not in self._cells:
                self._put(key, frontier.snapshot(row.slot, since=row.prefilled - CELL))

    def _put(self, key: bytes, saved: Saved) -> None:
        size = _size(saved)
        if size > self.limit:
            return
        while self.bytes + size > self.limit:
            self.bytes -= _size(self._cells.popitem(last=False)[1])
        self._cells[key] = saved
        self.bytes += size

    def _keys(self, request: Request) -> list[bytes]:
        """One for each whole cell: of all tokens up to its end."""
        digest = blake2b(request.salt.encode(), digest_size=32)
        keys = []
        for start in range(0, len(request.prompt) - CELL + 1, CELL):
            digest.update(_bytes(request.prompt[start : start + CELL]))
            keys.append(digest.digest())
        return keys


def _bytes(tokens: Sequence[int]) -> bytes:
    return b"".join(token.to_bytes(8, "little") for token in tokens)


def _size(saved: Saved) -> int:
    return sum(value.nbytes for memory in saved for value in memory.values())
