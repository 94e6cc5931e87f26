"""A token leaves once enough exits in a row have named the same token (PABEE, arXiv 2006.04152).

The score is that row's length, this exit included, as a share of all exits: with S exits, PABEE's patience p (p
agreements, so p + 1 exits) is any threshold from p / S to just under (p + 1) / S. 0 leaves at the first exit; 1
never leaves. An exit whose logits are NaN is passed over. It reads the whole vocabulary at every exit. Under `verify`
drafts leave the first exit alone, where nothing can have agreed yet: below 1 / S all leave there, else none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offramp.policies.base import ExitPolicy, Memory, Signal


class Patience(ExitPolicy):
    """The share of the exits that agree, one after another.

    Memory: the index asked about, the token its newest exit named, and how many exits in a row named it.
    """

    needs_logits = True

    def init_state(self) -> Memory:
        return (-1.0, -1.0, 0.0)

    def __call__(self, signal: Signal, memory: Sequence[Memory]) -> tuple[Tensor, list[Memory]]:
        assert signal.logits_RV is not None
        tops = signal.logits_RV.argmax(-1).tolist()
        after = [_count(*asked) for asked in zip(memory, signal.index, tops, strict=True)]
        threshold, exits = self.thresholds[signal.exit], len(self.thresholds)
        leaves = [row[-1] / exits > threshold for row in after]
        return torch.tensor(leaves, device=signal.gate_R.device), after


def _count(memory: Memory, index: int, top: int) -> Memory:
    """What is remembered of a row after an exit named `top` for the token number `index`."""
    asked, named, in_a_row = memory
    agrees = (asked, named) == (index, top)
    return float(index), float(top), in_a_row + 1 if agrees else 1.0
