"""Every token leaves at the first exit it meets, as far as run_max lets it: fixed-depth drafting."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offramp.policies.base import ExitPolicy, Memory, Signal


class Always(ExitPolicy):
    """Not read: every token leaves at the first exit."""

    def __call__(self, signal: Signal, memory: Sequence[Memory]) -> tuple[Tensor, list[Memory]]:
        return torch.ones_like(signal.gate_R, dtype=torch.bool), list(memory)
