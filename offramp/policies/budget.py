"""Keeps a mean depth: the bar for the gate moves until tokens use the asked share of the blocks on average.

    bar <- bar + RATE (threshold - depth / blocks)        after each token: too deep lowers it, too shallow raises it

The steps add up to the bar's whole way, so over T tokens the mean differs from the threshold by the way the bar
went / (RATE T), whatever the gates say. The bar cannot go far: at 0 every token leaves at the first exit and at 1
none does. (The same argument bounds the coverage of adaptive conformal inference, arXiv 2106.00170.) A share
below what the first exit and run_max allow cannot be kept; the bar then rests at its end. Depth is that of the
decision: under `verify` a rejected draft counts where it was drafted.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offramp.errors import UsageError
from offramp.policies.base import ExitPolicy, Memory, Signal

RATE = 0.2
"""A token at full depth that should have used half the blocks lowers the bar by a tenth."""


class Budget(ExitPolicy):
    """The share of the blocks to use on average (by gates).

    Counted are the tokens it is asked about: all but the first, which the prompt's own pass gives.
    Memory: the newest index asked about, the share of the blocks it uses as far as known, and the bar it met.
    Raises UsageError for thresholds that differ: there is one mean.
    """

    needs_gate = True

    def __init__(self, thresholds: Sequence[float]) -> None:
        super().__init__(thresholds)
        if len(set(self.thresholds)) > 1:
            raise UsageError(
                f"policy budget keeps one mean depth; give one threshold, not {len(self.thresholds)} that differ."
            )
        self.share = self.thresholds[0] if self.thresholds else 1.0

    def init_state(self) -> Memory:
        return (-1.0, self.share, self.share)

    def __call__(self, signal: Signal, memory: Sequence[Memory]) -> tuple[Tensor, list[Memory]]:
        bars = [self._bar(row, index) for row, index in zip(memory, signal.index, strict=True)]
        leaves = [gate > bar for gate, bar in zip(signal.gate_R.tolist(), bars, strict=True)]
        shares = [
            signal.depth / signal.blocks if leave and may else 1.0
            for leave, may in zip(leaves, signal.may_leave, strict=True)
        ]
        after = zip(map(float, signal.index), shares, bars, strict=True)
        return torch.tensor(leaves, device=signal.gate_R.device), list(after)

    def _bar(self, memory: Memory, index: int) -> float:
        """The bar for token number `index`: once the next one is asked about, the depth of the last is known."""
        asked, used, bar = memory
        if asked == index:
            return bar
        return min(1 + RATE, max(-RATE, bar + RATE * (self.share - used)))
