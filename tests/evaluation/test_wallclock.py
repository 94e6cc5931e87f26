"""Ratios of seconds, on a clock that passes only when something runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import pytest

from offramp.evaluation.wallclock import CONTROL, ratios


@dataclass
class Clock:
    """Time that passes only when something runs."""

    now: float = 0.0
    order: list[str] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def spend(self, name: str, seconds: float) -> None:
        self.order.append(name)
        self.now += seconds


def test_ratios_are_medians_of_ratios_prompt_by_prompt() -> None:
    clock = Clock()
    turns = [
        {"full": partial(clock.spend, "full", full), "skip": partial(clock.spend, "skip", skip)}
        for full, skip in ((1.0, 0.5), (10.0, 8.0), (2.0, 1.2))
    ]
    found = ratios(turns, "full", lambda name: None, clock)
    assert found == {"full": 1.0, "skip": pytest.approx(0.6), CONTROL: 1.0}


def test_every_prompt_begins_with_another_setting() -> None:
    clock = Clock()
    turns = [{name: partial(clock.spend, name, 1.0) for name in ("a", "b")} for _ in range(3)]
    ratios(turns, "a", lambda name: None, clock)
    assert clock.order == ["a", "b", "a", "b", "a", "a", "a", "a", "b"]
