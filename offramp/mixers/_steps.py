"""The order in which the packed tokens of a call meet a recurrence: every row's first, then every row's second, and
so on.

Rows with more tokens come first, so the rows that have a token t are always the first so many. Rows are stepped in
groups whose states stay in a core's cache together.

Shapes: R rows, M packed tokens (N elsewhere; here N is an SSM state's), L of them that are no padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

CACHED = 1 << 17
"""Numbers of SSM state that are stepped together, as every step touches them all several times. A row with more is
stepped alone."""


@dataclass(frozen=True)
class Group:
    """Neighbours in `Steps.rows`. sizes[t]: how many of them, from `first` on, have a token t."""

    first: int
    sizes: list[int]


@dataclass(frozen=True)
class Steps:
    """rows: the call's, as they are stepped. token_L: row and number within it. packed_L: its place in the call."""

    rows: list[int]
    groups: list[Group]
    token_L: list[tuple[int, int]]
    packed_L: list[int]

    def line_up(self, x_MD: Tensor) -> Tensor:
        """Packed tokens in the order in which they are stepped; padding stays behind them."""
        order_M = self._order(x_MD)
        return x_MD if order_M is None else x_MD.index_select(0, order_M)

    def pack(self, y_MD: Tensor) -> Tensor:
        """The other way round."""
        order_M = self._order(y_MD)
        return y_MD if order_M is None else torch.empty_like(y_MD).index_copy_(0, order_M, y_MD)

    def _order(self, x_MD: Tensor) -> Tensor | None:
        """None where nothing moves: one row, or one token a row."""
        tokens = len(self.packed_L)
        if self.packed_L == list(range(tokens)):
            return None
        return torch.tensor([*self.packed_L, *range(tokens, len(x_MD))], device=x_MD.device)


def in_steps(n: Sequence[int], size: int) -> Steps:
    """Rows of n[i] tokens each. size: numbers in a row's SSM state."""
    begin = list(accumulate(n, initial=0))
    rows = sorted(range(len(n)), key=n.__getitem__, reverse=True)
    together = max(1, CACHED // size)
    groups, tokens = [], []
    for first in range(0, len(rows), together):
        group = rows[first : first + together]
        steps = [[(row, t) for row in group if n[row] > t] for t in range(n[group[0]])]
        groups.append(Group(first, [len(step) for step in steps]))
        tokens += [token for step in steps for token in step]
    return Steps(rows, groups, tokens, [begin[row] + t for row, t in tokens])
