"""Why it is not worth it: each cause alone, and in words."""

from __future__ import annotations

import pytest
from clocks import Unit, parts, stated

from offramp.exits.base import ExitConfig
from offramp.forecast.clock import Clock
from offramp.forecast.parts import Parts
from offramp.forecast.plan import Assumed, forecast
from offramp.forecast.setting import Skill
from offramp.forecast.verdict import WORTH, Verdict

GATE = ExitConfig("linear", "none", (1,), 16, 1e-5)


def judged(
    clock: Clock, agreement: float, seen: Parts, rows: int = 8, after: int = 2, skill: Skill | None = None
) -> Verdict:
    assumed = Assumed(GATE, skill or Skill(0.7, 0.85), (rows,))
    return forecast([stated(after, agreement)], seen, clock, assumed).verdict


def test_worth_it() -> None:
    found = judged(Unit(), 0.8, parts())
    assert found.worth and not found.reason and found.exact.propagation == "verify"
    assert found.exact.best.expected >= WORTH


@pytest.mark.parametrize(
    ("clock", "agreement", "seen", "reason"),
    [
        (Unit(), 0.1, parts(), "too seldom: 10% after 2 of 8 blocks, which bounds any gain at 1.00"),
        (Unit(head=8), 0.7, parts(head=8), "the head is too expensive: it is 50% of what a pass reads"),
        (Unit(each=1.0), 0.7, parts(), "passes wait for arithmetic"),
        (Unit(start=20), 0.7, parts(), "two passes take more time here than one"),
    ],
)
def test_reasons(clock: Clock, agreement: float, seen: Parts, reason: str) -> None:
    found = judged(clock, agreement, seen, rows=8)
    assert found.exact.best.expected < WORTH and reason in found.reason


def test_only_a_perfect_gate() -> None:
    found = judged(Unit(), 0.4, parts(), rows=1, skill=Skill(0.1, 0.5), after=3)
    assert found.exact.best.expected < WORTH <= found.exact.best.most
    assert "only a gate that is always right" in found.reason


def test_lossy_modes_are_told_where_they_gain_more() -> None:
    """Above the ridge a judged token runs every block, one that left and waits does too, one that is skipped not."""
    settled = parts()
    skipping = Parts(
        settled.blocks, settled.head, settled.gate, {**settled.settle, "skip": settled.settle["verify"]}, 0
    )
    found = judged(Unit(each=1.0), 0.8, skipping, rows=16)
    assert found.reason and found.lossy and found.worth
    assert found.lossy.propagation not in ("verify", "defer") and found.lossy.changed > 0
