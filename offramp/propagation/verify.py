"""Lossless: a token that left is a draft; the next deep pass takes all drafts as one chunk and judges them.

Self-speculation as in LayerSkip (arXiv 2404.16710), gated token by token, on attention and Mamba alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from offramp.propagation.base import Propagation, Stack


class Verify(Propagation):
    waits = True
    judged = True

    def after_exit(self, stack: Stack, h_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        """Nothing: the token waits in the next segment's ring."""
