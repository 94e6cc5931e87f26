"""Clocks and parts of a model that is only arithmetic: blocks of weight 1, a head, a gate."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.engine.timings import Curve, Timings
from offramp.evaluation.bootstrap import Interval
from offramp.evaluation.cost import Cost
from offramp.forecast.agreement import Agreement
from offramp.forecast.clock import Clock
from offramp.forecast.parts import Parts
from offramp.forecast.setting import Setting

BLOCKS = 8


@dataclass(frozen=True)
class Unit(Clock):
    """A block takes a second, whatever it holds, and each token `each` seconds more."""

    head: float = 0.0
    gate: float = 0.0
    each: float = 0.0
    start: float = 0.0

    def plain(self, rows: int) -> float:
        return self.start + BLOCKS * (1 + self.each * rows) + self.head

    def timings(self, setting: Setting, rows: int) -> Timings:
        after, gate = setting.after, self.gate if setting.gated else 0.0
        return Timings(
            self._curve(after, gate), self._curve(BLOCKS - after, self.head), Curve(((1, self.head),))
        )

    def _curve(self, blocks: int, more: float) -> Curve:
        ends = (1, 1024)
        return Curve(tuple((n, self.start + blocks * (1 + self.each * n) + more) for n in ends))


def parts(head: int = 0, gate: int = 0) -> Parts:
    """Of the same model: bytes are seconds."""
    waits = dict.fromkeys(range(1, BLOCKS), Cost())
    return Parts((Cost(1),) * BLOCKS, Cost(head), Cost(gate), {"verify": waits, "defer": waits}, 0)


def stated(after: int, value: float) -> Agreement:
    """An agreement that is known."""
    return Agreement(after, "none", Interval(value, value, value))
