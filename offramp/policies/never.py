"""No token leaves: the baseline every other policy is held against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offramp.policies.base import ExitPolicy, Memory, Signal


class Never(ExitPolicy):
    """Not read: no token leaves."""

    def __call__(self, signal: Signal, memory: Sequence[Memory]) -> tuple[Tensor, list[Memory]]:
        return torch.zeros_like(signal.gate_R, dtype=torch.bool), list(memory)
