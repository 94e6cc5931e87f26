"""Rounds: every engine has one turn in each, the order drawn anew, so that a machine that slows down slows all."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from offramp.bench.bound import Bound
from offramp.bench.contender import Job, NotRun, Prompt, Turn
from offramp.bench.ours import FULL
from offramp.bench.steady import steady_rounds
from offramp.bench.worker import Ready, Worker

WARM_UP = 2
"""Rounds that do not count."""

Tick = Callable[[str], None]
"""Called before every piece of work with its name."""


class Engine(Protocol):
    """What `Worker` is; tests have others."""

    def ready(self, prompts: Sequence[Prompt]) -> Ready: ...

    def turn(self, prompts: Sequence[Prompt]) -> Turn: ...

    def bound(self, prompts: Sequence[Prompt]) -> Bound | None: ...

    def close(self) -> None: ...


@dataclass
class Course:
    """One engine's way through the rounds. out: why it is not run; then it has no turns."""

    name: str
    ready: Ready | None = None
    turns: list[Turn] = field(default_factory=list)
    bound: Bound | None = None
    out: str = ""


@dataclass(frozen=True)
class Plan:
    """prompts: by round, those of each row, over and over. seed: draws the orders."""

    prompts: Sequence[Sequence[Prompt]]
    rounds: int
    seed: int = 0

    def of(self, number: int) -> Sequence[Prompt]:
        return self.prompts[number % len(self.prompts)]


def work(engines: int, plan: Plan) -> int:
    """How many times `tick` will be called, if every engine runs."""
    return engines * (plan.rounds + WARM_UP + 2)


def race(
    jobs: Sequence[Job], plan: Plan, tick: Tick, start: Callable[[Job], Engine] = Worker
) -> dict[str, Course]:
    """By engine, what became of it. One that fails is out, with its reason; the others go on."""
    courses = {job.engine: Course(job.engine) for job in jobs}
    with ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for job in jobs:
            tick(f"{job.engine}: loading")
            engines[job.engine] = engine = start(job)
            stack.callback(engine.close)
            with _out_where_it_fails(courses[job.engine]):
                courses[job.engine].ready = engine.ready(plan.of(0))
        draw = random.Random(plan.seed)
        for number in range(-WARM_UP, plan.rounds):
            for name in draw.sample(list(engines), len(engines)):
                tick(f"round {number + 1} of {plan.rounds}: {name}" if number >= 0 else f"warming up: {name}")
                _turn(courses[name], engines[name], plan, number)
        prompts = _steady(courses, plan)
        for name, engine in engines.items():
            tick(f"{name}: bound")
            with suppress(NotRun):
                courses[name].bound = None if courses[name].out else engine.bound(prompts)
    return courses


def _steady(courses: Mapping[str, Course], plan: Plan) -> list[Prompt]:
    """Every prompt once; where some of full depth's texts loop, only the others'."""
    full = courses[FULL].turns if FULL in courses else []
    rounds = steady_rounds(full) or range(plan.rounds)
    return list(dict.fromkeys(prompt for number in rounds for prompt in plan.of(number)))


def _turn(course: Course, engine: Engine, plan: Plan, number: int) -> None:
    """number: of the round; below 0 nothing is kept."""
    if not course.out:
        with _out_where_it_fails(course):
            turn = engine.turn(plan.of(number))
            course.turns += [turn] if number >= 0 else []


@contextmanager
def _out_where_it_fails(course: Course) -> Iterator[None]:
    try:
        yield
    except NotRun as reason:
        course.out, course.turns = str(reason), []
