"""Seconds that passes take: the contract of a clock, and sums of curves."""

from __future__ import annotations

from abc import ABC, abstractmethod

from offramp.engine.timings import Curve, Timings
from offramp.forecast.setting import Setting


class Clock(ABC):
    """`here.Here` measures, `device.Described` computes."""

    @abstractmethod
    def plain(self, rows: int) -> float:
        """Seconds until each of so many rows has one more token, without exits."""

    @abstractmethod
    def timings(self, setting: Setting, rows: int) -> Timings:
        """What the passes of a cycle take; see `engine.timings`. rows: those that run."""

    def serves(self, setting: Setting) -> bool:
        """Whether this propagation can be had on these blocks."""
        return True


def summed(*curves: Curve) -> Curve:
    """One pass after the other: exact at every count that any of them knows."""
    counts = sorted({count for curve in curves for count, _ in curve.points})
    return Curve(tuple((count, sum(curve.seconds(count) for curve in curves)) for count in counts))


def scaled(curve: Curve, factor: float) -> Curve:
    """A pass that takes `factor` times as long."""
    return Curve(tuple((count, seconds * factor) for count, seconds in curve.points))
