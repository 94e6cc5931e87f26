"""Whose turn it is: first come first served, nobody starves, nobody waits longer than one prompt cell, d is kept."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import pytest
from batch_traffic import PROPAGATIONS, Alone, Whims, random_request, said
from random_models import VOCAB, Tiny, tiny

from offramp.engine.engine import Engine
from offramp.engine.queue import FAIR
from offramp.engine.reply import TokenEvent
from offramp.engine.request import Request
from offramp.engine.row import Row
from offramp.engine.scheduler import Deep, Prefill, Shallow, Turn
from offramp.errors import UsageError
from offramp.mixers.base import CELL

LONG = 4 * CELL + 30


@pytest.fixture(scope="module")
def setup() -> Tiny:
    found = tiny("llama", "linear", seed=70)
    found.model.config = replace(found.model.config, context_length=LONG + 60)
    return found


class Turns(Protocol):
    def next(self, running: Iterable[Row]) -> Turn | None: ...


@dataclass
class Recorder:
    """In the scheduler's place: what it gave to whom. A turn is its class's name and the numbers of its rows."""

    usual: Turns
    turns: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def next(self, running: Iterable[Row]) -> Turn | None:
        turn = self.usual.next(running)
        if turn is not None:
            rows = (turn.row,) if isinstance(turn, Prefill) else turn.rows
            self.turns.append((type(turn).__name__, tuple(row.id for row in rows)))
        return turn

    def of(self, number: int) -> list[str]:
        return [name for name, numbers in self.turns if number in numbers]


def _engine(setup: Tiny, **options: object) -> tuple[Engine, Recorder]:
    engine = Engine(setup.model, setup.exits, max_len=LONG + 60, prefix_memory=0, **options)  # type: ignore[arg-type]
    recorder = Recorder(engine.scheduler)
    engine.scheduler = recorder  # type: ignore[assignment]
    return engine, recorder


def _finish(engine: Engine) -> list[TokenEvent]:
    events = []
    while engine.busy:
        events += engine.step()
        engine.check_integrity()
    return events


def _short(**given: object) -> Request:
    return replace(Request((3, 4), "verify", "always", max_tokens=4, ignore_eos=True), **given)  # type: ignore[arg-type]


def _long(length: int = LONG) -> Request:
    return _short(prompt=tuple(1 + i % (VOCAB - 1) for i in range(length)))


# ---- who begins


def test_first_come_first_served_within_a_priority(setup: Tiny) -> None:
    engine, recorder = _engine(setup, queue=5)
    wanted = [1, 0, 1, 0, -2]
    for priority in wanted:
        engine.add(_short(priority=priority))
    _finish(engine)
    begun = [numbers[0] for name, numbers in recorder.turns if name == "Prefill"]
    assert begun == [4, 1, 3, 0, 2]


def test_a_low_priority_does_not_starve(setup: Tiny) -> None:
    """However many more urgent requests keep coming: the one that has waited longest has every FAIR-th slot."""
    engine, recorder = _engine(setup)
    patient = [engine.add(_short(priority=9, max_tokens=1)) for _ in range(2)]
    begun: list[int] = []
    while not set(patient) <= set(begun):
        engine.add(_short(max_tokens=1))
        engine.step()
        begun = [numbers[0] for name, numbers in recorder.turns if name == "Prefill"]
        assert len(begun) <= 2 * FAIR
    assert [begun.index(number) for number in patient] == [FAIR - 1, 2 * FAIR - 1]


# ---- how long others wait


@pytest.mark.parametrize("drafts", [1, 15])
def test_a_running_row_waits_for_one_prompt_cell_at_most(setup: Tiny, drafts: int) -> None:
    """Between two passes of it, whatever its propagation, while long prompts keep coming."""
    engine, recorder = _engine(setup, slots=9, drafts=drafts)
    rng = random.Random(1)
    asked = [random_request(rng, name) for name in PROPAGATIONS]
    talking = [engine.add(replace(request, run_max=4, max_tokens=30, ignore_eos=True)) for request in asked]
    while not all(recorder.of(number) for number in talking):
        engine.step()
    for _ in range(3):
        engine.add(_long())
    _finish(engine)
    for number in talking:
        mine = [i for i, (_, numbers) in enumerate(recorder.turns) if number in numbers]
        cells = [
            sum(name == "Prefill" for name, _ in recorder.turns[start + 1 : stop])
            for start, stop in zip(mine, mine[1:], strict=False)
        ]
        assert max(cells) <= 1 and sum(cells) >= 3


def test_a_long_prompt_goes_on_in_every_cycle(setup: Tiny) -> None:
    """Rows that talk do not keep it waiting: between two of its cells no row has more than one deep pass."""
    engine, recorder = _engine(setup, slots=4, drafts=3)
    for _ in range(3):
        engine.add(_short(max_tokens=50))
    for _ in range(8):
        engine.step()
    number = engine.add(_long())
    _finish(engine)
    cells = [i for i, (name, numbers) in enumerate(recorder.turns) if name == "Prefill" and number in numbers]
    assert len(cells) == 5
    for start, stop in zip(cells, cells[1:], strict=False):
        between = recorder.turns[start + 1 : stop]
        deep = Counter(row for name, numbers in between if name == "Deep" for row in numbers)
        assert between and max(deep.values()) == 1
        assert sum(name == "Shallow" for name, _ in between) <= 4


def test_prompts_run_in_the_order_of_their_coming(setup: Tiny) -> None:
    engine, recorder = _engine(setup, slots=3)
    lengths = (2 * CELL, 3, CELL + 1)
    for length in lengths:
        engine.add(_long(length))
    _finish(engine)
    cells = [numbers[0] for name, numbers in recorder.turns if name == "Prefill"]
    assert cells == [0, 0, 1, 2, 2]


# ---- leaving early, and standing still


def test_cancelled_at_any_step(setup: Tiny) -> None:
    """Waiting, in its prompt, while it drafts, while it waits for a deep pass: its slot is free at once."""
    behind, prompt = _short(prompt=(8, 9)), _long(CELL + 5).prompt
    wanted = Alone(setup).says(behind)
    seen = Counter[str]()
    for steps in range(14):
        engine, recorder = _engine(setup, drafts=2)
        number, last = engine.add(_short(prompt=prompt, max_tokens=30)), engine.add(behind)
        for _ in range(steps):
            engine.step()
        engine.cancel(number)
        engine.check_integrity()
        assert number not in engine._running
        seen[recorder.turns[-1][0] if steps else "waits"] += 1
        events = _finish(engine)
        assert said(behind, (event for event in events if event.request == last)) == wanted
        assert engine._free == [0]
    assert set(seen) == {"waits", "Prefill", "Shallow", "Deep"}


def test_unknown_and_ended_requests_are_cancelled_in_peace(setup: Tiny) -> None:
    engine, _ = _engine(setup)
    number = engine.add(_short())
    _finish(engine)
    engine.cancel(number)
    engine.cancel(99)
    engine.pause(99)
    assert engine._free == [0] and not engine.busy


def test_paused_rows_take_no_turns_and_lose_nothing(setup: Tiny) -> None:
    """Paused and woken at random, in the prompt too; the others go on meanwhile."""
    engine, recorder = _engine(setup, slots=4)
    rng, alone = random.Random(4), Alone(setup, max_len=LONG + 60)
    asked = [_long(CELL + 9), *(random_request(rng, name) for name in ("verify", "defer", "project"))]
    numbers = [engine.add(request) for request in asked]
    events, paused = [], set[int]()
    engine._admit()
    while engine.busy:
        for number in numbers:
            if rng.random() < 0.3:
                paused ^= {number}
                engine.pause(number, number in paused)
        before = len(recorder.turns)
        events += engine.step()
        assert not any(paused & set(who) for _, who in recorder.turns[before:])
        assert len(recorder.turns) > before or set(engine._running) <= paused
    for number, request in zip(numbers, asked, strict=True):
        assert said(request, (event for event in events if event.request == number)) == alone.says(request)


# ---- d


@pytest.mark.parametrize("d", [0, 1, 2, 5])
def test_a_fixed_d_is_kept(setup: Tiny, d: int) -> None:
    """No row drafts more than d tokens between two deep passes, and rows that can, draft d."""
    engine, recorder = _engine(setup, slots=3, drafts=d)
    for i in range(3):
        engine.add(_short(prompt=(i + 1, 2), max_tokens=20, run_max=15))
    drafts: list[int] = []
    while engine.busy:
        engine._admit()
        rows = list(engine._running.values())
        engine.step()
        if recorder.turns[-1][0] == "Shallow":
            drafts += [len(row.drafts) for row in rows]
    assert max(drafts) == d


@pytest.mark.parametrize("drafts", [-1, 16, "many"])
def test_impossible_d(setup: Tiny, drafts: int | str) -> None:
    with pytest.raises(UsageError, match='it must be a count from 0 to 15, or "auto"'):
        setup.engine(drafts=drafts)


def test_d_may_change_in_every_cycle(setup: Tiny) -> None:
    """What a lossy row says is its own business: however many shallow rounds a cycle has."""
    engine, recorder = _engine(setup, slots=3)
    engine.scheduler.usual.controller = Whims(random.Random(6))  # type: ignore[attr-defined]
    asked = [_short(propagation=name, policy="gate", max_tokens=20) for name in ("verify", "defer", "skip")]
    numbers = [engine.add(request) for request in asked]
    events, alone = _finish(engine), Alone(setup)
    for number, request in zip(numbers, asked, strict=True):
        assert said(request, (event for event in events if event.request == number)) == alone.says(request)
    assert {Shallow.__name__, Deep.__name__} <= {name for name, _ in recorder.turns}
