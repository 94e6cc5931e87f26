"""What is asked of a clock: which exit, with which gate and bridge, under which propagation, for how many rows.

And how good a gate will be, which nobody knows before it is trained: two assumptions, and none.
"""

from __future__ import annotations

from dataclasses import dataclass

from offramp.engine.controller import Prospect
from offramp.forecast.agreement import LENS
from offramp.propagation.base import Propagation
from offramp.registry import find

RUN_MAX = 8
"""Tokens that may leave in a row, as requests have it where nobody says."""


@dataclass(frozen=True)
class Setting:
    """One exit after `after` blocks. gated: the gate runs for every token, and costs."""

    after: int
    bridge: str = LENS
    propagation: str = "verify"
    gated: bool = True

    @property
    def kind(self) -> Propagation:
        return find("offramp.propagation", self.propagation, Propagation)()


@dataclass(frozen=True)
class Skill:
    """How well a gate finds the tokens at which its exit agrees with the full model.

    recall: the share of them that it lets leave. precision: the share of what it lets leave that is right.
    """

    recall: float
    precision: float

    def prospect(self, agreement: float, setting: Setting) -> Prospect:
        """What a row brings into a cycle. Nothing is less precise than letting every token leave."""
        kind = setting.kind
        precision = max(self.precision, agreement)
        leave = min(1.0, self.recall * agreement / precision) if precision else 0.0
        return Prospect(leave, precision, kind.judged, kind.waits, RUN_MAX)

    def wrong(self, agreement: float) -> float:
        """The share of all tokens that leave and are not the full model's."""
        precision = max(self.precision, agreement)
        return min(1.0, self.recall * agreement / precision) * (1 - precision) if precision else 0.0


PERFECT = Skill(1.0, 1.0)
"""The upper bound: exactly the tokens that agree leave."""
NO_GATE = Skill(1.0, 0.0)
"""Every token is drafted: its precision is the agreement itself."""
