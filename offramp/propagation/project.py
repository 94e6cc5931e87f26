"""Deeper layers apply their own norm and weights to the exit's hidden state and skip the output.

CALM's state propagation (arXiv 2207.07061 section 3.2); DYNAMAX's "recompute" and "partial" forward.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from offramp.propagation.base import Propagation, Stack


class Project(Propagation):
    def after_exit(self, stack: Stack, h_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        stack.advance(h_ND, rows, n)
