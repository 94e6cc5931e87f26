"""Deeper attention blocks take over keys and values of the nearest one above the exit, for the same token.

DYNAMAX's text (arXiv 2504.20922); its code does as copy_token. CALM found that copying keys and values loses far more
than projecting the exit's hidden state (arXiv 2207.07061: ROUGE-L 23.0 against 38.2).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from offramp.errors import UsageError
from offramp.mixers.base import Mixer
from offramp.propagation.base import Propagation, Stack


class CopyBlock(Propagation):
    def check(self, mixers: Sequence[Mixer], after: Sequence[int]) -> None:
        """All attention blocks deeper than an exit must have the shape of the nearest one above it."""
        for stop in after:
            sources = [i for i in range(stop) if mixers[i].entry_kind is not None]
            source = mixers[sources[-1]].entry_kind if sources else None
            for i in range(stop, len(mixers)):
                kind = mixers[i].entry_kind
                if None not in (source, kind) and kind != source:
                    raise UsageError(
                        f"copy_block would give block {i + 1} ({kind}) the keys and values of block {sources[-1] + 1} "
                        f"({source}) at the exit after {stop} blocks; they must be of one shape. "
                        "Use copy_token, project, defer or verify."
                    )

    def after_exit(self, stack: Stack, h_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        source = next((part for part in reversed(stack.shallower) if part.keeps_entries), None)
        for part in stack.deeper:
            if source is None:
                part.skip(rows, n)
            else:
                part.copy_entries(rows, n, source)
        for part in stack.listeners:
            part.skip(rows, n)
