"""A token leaves where the exit's gate is surer than that exit's threshold (DYNAMAX)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from offramp.policies.base import ExitPolicy, Memory, Signal


class GatePolicy(ExitPolicy):
    def __call__(self, signal: Signal, memory: Sequence[Memory]) -> tuple[Tensor, list[Memory]]:
        return signal.gate_R > self.thresholds[signal.exit], list(memory)
