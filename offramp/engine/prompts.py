"""What was computed of prompts and can serve again: cells of the fixed grid, and whole prompts of several samples.

Prompts are cut into cells from position 0, whatever the load, so a cell's memory (keys and values, SSM states, those
of gates and bridges) is a function of the tokens up to its end alone: giving it back changes no bit.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from itertools import takewhile

from torch import Tensor

from offramp.engine.frontier import Frontier, Saved
from offramp.engine.request import Request
from offramp.engine.row import Row
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
        row.cells = self._keys(row.request)
        known = list(takewhile(self._cells.__contains__, row.cells[: (len(row.request.prompt) - 1) // CELL]))
        for key in known:
            frontier.restore(row.slot, self._cells[key])
        row.prefilled = CELL * len(known)
        self.hits += len(known)
        self._touch(known)
        return None

    def keep(self, frontier: Frontier, row: Row, logits_V: Tensor) -> None:
        """Remember the cell that the row has just run, and the whole prompt where other samples wait for it."""
        if row.shared is not None and row.prompted:
            row.shared.saved, row.shared.logits_V = frontier.snapshot(row.slot), logits_V
        *before, key = row.cells[: row.prefilled // CELL] or [b""]
        whole = row.prefilled > 0 and row.prefilled % CELL == 0
        if whole and key not in self._cells and all(cell in self._cells for cell in before):
            self._put(before, key, frontier.snapshot(row.slot, since=row.prefilled - CELL))

    def _put(self, before: Sequence[bytes], key: bytes, saved: Saved) -> None:
        """A cell without those before it is of no use, so it never takes their place."""
        size = _size(saved)
        if size > self.limit - sum(_size(self._cells[cell]) for cell in before):
            return
        self._touch(before)
        while self.bytes + size > self.limit:
            self.bytes -= _size(self._cells.popitem(last=False)[1])
        self._cells[key] = saved
        self.bytes += size
        self._touch([*before, key])

    def _touch(self, cells: Sequence[bytes]) -> None:
        """They were used just now; what begins a prompt last, so that it goes after what follows it."""
        for cell in reversed(cells):
            self._cells.move_to_end(cell)

    def _keys(self, request: Request) -> list[bytes]:
        """One for each whole cell: of all tokens up to its end."""
        salt = blake2b(request.salt.encode()).digest()  # of one length, so it cannot be read as tokens
        digest = blake2b(salt, digest_size=32)
        keys = []
        for start in range(0, len(request.prompt) - CELL + 1, CELL):
            digest.update(array("q", request.prompt[start : start + CELL]).tobytes())
            keys.append(digest.digest())
        return keys


def _size(saved: Saved) -> int:
    return sum(value.nbytes for memory in saved for value in memory.values())
