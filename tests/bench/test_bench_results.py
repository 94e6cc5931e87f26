"""From turns to one line an engine."""

from __future__ import annotations

import pytest
from racers import turn

from offramp.bench.bound import Bound
from offramp.bench.contender import Turn
from offramp.bench.results import Alike, alike, lines
from offramp.bench.rounds import Course
from offramp.bench.worker import Ready

READY = Ready("offramp test", 1 << 20)


def course(name: str, turns: list[Turn], bound: Bound | None = None) -> Course:
    return Course(name, READY, turns, bound)


def test_medians_ratio_share_and_what_was_reached() -> None:
    full = [turn(rate, weight_bytes=1e6, bandwidth=1e9) for rate in (90.0, 100.0, 110.0) * 3]
    fast = [turn(rate, weight_bytes=5e5, bandwidth=1e9) for rate in (180.0, 200.0, 220.0) * 3]
    bound = Bound(2.5, "always", 3, 0.9, 0.25, 0.3, 0.1, {0: 1.0}, 0.01)
    courses = [course("full", full), course("full again", full), course("verify", fast, bound)]
    one, again, two = lines({each.name: each for each in courses})
    assert (one.rate, two.rate) == (pytest.approx(100), pytest.approx(200))
    assert two.ratio is not None and two.ratio.value == pytest.approx(2)
    assert one.share == pytest.approx(0.1) and two.share == pytest.approx(0.1)
    assert two.not_slower is True and again.not_slower is True
    assert two.reached == pytest.approx(0.8) and one.reached is None
    assert two.first == 0.01 and two.memory == 1 << 20


def test_without_full_depth_rates_stand_alone() -> None:
    courses = {"full": Course("full", out="no memory"), "verify": course("verify", [turn()] * 6)}
    out, line = lines(courses)
    assert out.out == "no memory"
    assert line.rate == pytest.approx(100) and line.ratio is None and line.alike is None


def test_an_unknown_share_is_none() -> None:
    assert lines({"full": course("full", [turn()] * 6)})[0].share is None


def test_texts_are_compared_as_far_as_both_go() -> None:
    full = [turn(tokens=(1, 2, 3, 4)), turn(tokens=(5, 6, 7, 8)), turn(tokens=(1, 1, 1, 1))]
    mine = [turn(tokens=(1, 2, 3)), turn(tokens=(5, 9, 7, 8)), turn(tokens=(1, 1, 1, 1))]
    assert alike(mine, full) == Alike(rounds=pytest.approx(2 / 3), until=3, compared=4)
    assert alike(full, full) == Alike(1.0, 4, 4)
    courses = {"full": course("full", full), "peer": course("peer", mine)}
    assert lines(courses)[1].alike is not None and lines(courses, ["peer"])[1].alike is None


def test_rounds_that_loop_are_apart() -> None:
    """In a loop every draft is right."""
    loop = (7,) * 40
    full = [turn(tokens=range(40)), turn(tokens=loop)] * 6
    fast = [turn(120.0, tokens=range(40)), turn(400.0, tokens=loop)] * 6
    bound = Bound(1.25, "always", 3, 0.9, 0.25, 0.3, 0.1, {0: 1.0}, 0.01)
    _, line = lines({"full": course("full", full), "verify": course("verify", fast, bound)})
    assert line.ratio is not None and line.ratio.value > 2
    assert line.steady is not None and line.steady.value == pytest.approx(1.2)
    assert line.reached == pytest.approx(1.2 / 1.25)
    assert lines({"full": course("full", full[:1] * 6)})[0].steady is None
