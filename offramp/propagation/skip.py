"""Deeper layers never see the token; only its position is used up (DYNAMAX's "unchanged" states)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from offramp.propagation.base import Propagation, Stack


class Skip(Propagation):
    def after_exit(self, stack: Stack, h_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        for part in (*stack.deeper, *stack.listeners):
            part.skip(rows, n)
