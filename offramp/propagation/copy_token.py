"""Deeper attention blocks repeat the last keys and values they computed themselves, moved to the token's position.

DYNAMAX's published code (arXiv 2504.20922), which repeats the entry before and rotates keys when they are read: so
a run of copies there, too, repeats one entry at ever new positions.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from offramp.propagation.base import Propagation, Stack


class CopyToken(Propagation):
    def after_exit(self, stack: Stack, h_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        for part in stack.deeper:
            part.repeat_entry(rows, n)
        for part in stack.listeners:
            part.skip(rows, n)
