"""Rounds: everyone once a round, in other orders, and whoever fails is out alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from racers import PROMPTS, Racer, job, turn

from offramp.bench.contender import Job, Prompt
from offramp.bench.results import lines
from offramp.bench.rounds import WARM_UP, Course, Plan, race, work

Calls = list[tuple[str, Sequence[Prompt]]]


def run(racers: Sequence[Racer], rounds: int = 6) -> tuple[dict[str, Course], int]:
    by_name = {racer.name: racer for racer in racers}
    ticks: list[str] = []

    def start(asked: Job) -> Racer:
        return by_name[asked.engine]

    found = race([job(racer.name) for racer in racers], Plan(PROMPTS, rounds, seed=3), ticks.append, start)
    return found, len(ticks)


def test_everyone_once_a_round_in_orders_that_differ() -> None:
    calls: Calls = []
    names = ("full", "full again", "a", "b")
    found, ticks = run([Racer(name, [turn()], calls) for name in names])
    rounds = [calls[at : at + 4] for at in range(0, len(calls), 4)]
    assert len(rounds) == 6 + WARM_UP and ticks == work(4, Plan(PROMPTS, 6))
    assert all(sorted(name for name, _ in each) == sorted(names) for each in rounds)
    assert all(len({str(prompts) for _, prompts in each}) == 1 for each in rounds), "the same prompt for all"
    assert len({tuple(name for name, _ in each) for each in rounds}) > 1
    assert all(len(course.turns) == 6 for course in found.values()), "what warms up is not kept"


def test_orders_follow_the_seed() -> None:
    first: Calls = []
    second: Calls = []
    for calls in (first, second):
        run([Racer(name, [turn()], calls) for name in "abc"])
    assert first == second


@pytest.mark.parametrize(("fails", "why"), [(-1, "broken from the start"), (3, "broken later")])
def test_one_that_fails_is_out_alone(fails: int, why: str) -> None:
    calls: Calls = []
    closed: list[str] = []
    racers = [Racer(name, [turn()], calls, closed=closed) for name in ("full", "full again")]
    found, _ = run([*racers, Racer("peer", [turn()], calls, fails, closed=closed)])
    assert (found["peer"].out, found["peer"].turns) == (why, [])
    assert len(found["full"].turns) == 6
    assert lines(found)[2].out == why and lines(found)[2].rate is None
    assert sorted(closed) == ["full", "full again", "peer"]
    assert sum(name == "peer" for name, _ in calls) == (0 if fails < 0 else fails + 1)


def test_a_bound_that_cannot_be_had_loses_nothing_else() -> None:
    found, _ = run([Racer(name, [turn()], []) for name in ("full", "verify")])
    assert found["verify"].bound is None and len(found["verify"].turns) == 6


def test_everybody_is_closed_when_it_is_interrupted() -> None:
    closed: list[str] = []

    class Interrupted(Racer):
        def turn(self, prompts: Sequence[Prompt]) -> None:  # type: ignore[override]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([Racer("full", [turn()], [], closed=closed), Interrupted("a", [turn()], [], closed=closed)])
    assert sorted(closed) == ["a", "full"]
