"""Hypothesis drives an engine: requests, samples, cancellations, pauses and turns in any order.

After every rule the engine is whole; in the end every row that ran on has said what it says alone.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import pytest
from batch_traffic import PROPAGATIONS, Alone, Said, random_request, said
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from random_models import CONTEXT, VOCAB, Tiny, tiny
from schedules import RandomTurns
from test_engine import letters

from offramp.engine.engine import Engine
from offramp.engine.reply import TokenEvent
from offramp.engine.request import Request
from offramp.errors import QueueFull

KINDS = (
    ("llama", "transformer", "last_block"),
    ("mistral", "linear", "none"),
    ("mamba", "mamba", "block"),
    ("mamba2", "linear", "last_block"),
    ("bamba", "mamba", "lens"),
)
POOL = 30
"""Requests that are asked for again and again: what each says alone is found once."""


@cache
def _alone(kind: tuple[str, str, str]) -> Alone:
    return Alone(tiny(*kind, seed=300 + KINDS.index(kind)), text=letters())


def _request(number: int) -> Request:
    rng = random.Random(f"pool {number}")
    request = random_request(rng, PROPAGATIONS[number % len(PROPAGATIONS)], most=9)
    if number % 4 == 1:
        return replace(request, forced=tuple(rng.randrange(VOCAB) for _ in range(rng.choice([1, 7]))))
    return replace(request, stop=("b", "cd"), priority=number % 3) if number % 4 == 2 else request


REQUESTS = st.integers(0, POOL - 1).map(_request)


class Batch(RuleBasedStateMachine):
    numbers: Bundle[int] = Bundle("numbers")

    @initialize(
        kind=st.sampled_from(KINDS), slots=st.sampled_from([1, 2, 4]), drafts=st.sampled_from([0, 2, 15])
    )
    def begin(self, kind: tuple[str, str, str], slots: int, drafts: int) -> None:
        self.alone = _alone(kind)
        setup: Tiny = self.alone.setup
        self.engine = Engine(
            setup.model, setup.exits, letters(), slots=slots, max_len=CONTEXT, drafts=drafts, queue=6
        )
        self.usual = self.engine.scheduler
        self.asked: dict[int, Request] = {}
        self.events: dict[int, list[TokenEvent]] = {}
        self.cancelled: set[int] = set()

    @rule(target=numbers, request=REQUESTS, count=st.sampled_from([1, 1, 1, 2, 3]))
    def ask(self, request: Request, count: int) -> object:
        soon = len(self.engine._free)  # these begin with the next turn
        room = len(self.engine.queue) + count <= 6 + soon
        try:
            numbers = self.engine.add_samples(request, count) if count > 1 else [self.engine.add(request)]
        except QueueFull:
            assert not room
            return multiple()
        assert room
        for i, number in enumerate(numbers):
            sampling = replace(request.sampling, seed=request.sampling.seed + i)
            self.asked[number], self.events[number] = replace(request, sampling=sampling), []
        return multiple(*numbers)

    @rule(number=numbers)
    def cancel(self, number: int) -> None:
        self.engine.cancel(number)
        self.cancelled.add(number)

    @rule(number=numbers, paused=st.booleans())
    def pause(self, number: int, paused: bool) -> None:
        self.engine.pause(number, paused)

    @rule(count=st.integers(1, 12))
    def steps(self, count: int) -> None:
        for _ in range(count):
            self._step()

    @rule(rng=st.randoms(use_true_random=False), count=st.integers(1, 12))
    def any_turns(self, rng: random.Random, count: int) -> None:
        self.engine.scheduler = RandomTurns(rng)  # type: ignore[assignment]
        for _ in range(count):
            self._step()
        self.engine.scheduler = self.usual

    def _step(self) -> None:
        for event in self.engine.step():
            assert event.request not in self.cancelled
            self.events[event.request].append(event)

    @invariant()
    def whole(self) -> None:
        if hasattr(self, "engine"):
            self.engine.check_integrity()

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        while self.engine.busy:
            for number in self.asked:
                self.engine.pause(number, False)
            self._step()
            self.engine.check_integrity()
        for number, request in self.asked.items():
            mine = said(request, self.events[number])
            assert mine == self._wanted(number, len(mine)), request

    def _wanted(self, number: int, length: int) -> Said:
        """A row that was cancelled has said as much as it had come to."""
        whole = self.alone.says(self.asked[number])
        return whole[:length] if number in self.cancelled else whole


TestBatch = Batch.TestCase
TestBatch.settings = settings(max_examples=10, stateful_step_count=20, deadline=None, print_blob=True)


@pytest.mark.slow
@pytest.mark.timeout(7200)
class TestBatchOften(Batch.TestCase):  # type: ignore[name-defined, misc]
    settings = settings(max_examples=400, stateful_step_count=50, deadline=None, print_blob=True)
