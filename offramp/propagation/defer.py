"""The exit's token is emitted; its exact deeper state is computed later, with the next token that stays.

EE-LLM's KV recomputation (arXiv 2312.04916) and FREE's synchronised decoding (2310.05424), also on Mamba.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from offramp.propagation.base import Propagation, Stack


class Defer(Propagation):
    waits = True

    def after_exit(self, stack: Stack, h_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        """Nothing: the token waits in the next segment's ring."""
