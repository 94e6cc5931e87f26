"""A token leaves where the exit's gate is surer than that exit's threshold (DYNAMAX)."""

from __future__ import annotations

from torch import Tensor

from offramp.policies.base import ScorePolicy, Signal


class GatePolicy(ScorePolicy):
    """The gate's value: how sure it is of the token."""

    needs_gate = True

    @classmethod
    def default_thresholds(cls, for_gates: tuple[float, ...]) -> tuple[float, ...]:
        return for_gates or (cls.default,)

    def score(self, signal: Signal) -> Tensor:
        return signal.gate_R
