"""Prompts that begin alike, and samples of one prompt: what was computed once serves again, and no bit changes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from batch_traffic import Alone, drive, said, visits
from random_models import VOCAB, Tiny, tiny

from offramp.engine.engine import Engine
from offramp.engine.reply import TokenEvent
from offramp.engine.request import Request, Sampling
from offramp.mixers.base import CELL

KINDS = (
    ("llama", "transformer", "none"),
    ("mistral", "linear", "block"),
    ("mamba2", "transformer", "lens"),
    ("bamba", "mamba", "last_block"),
)
ROOM = 3 * CELL + 60
MODES = ("verify", "defer", "project", "skip")


def _setup(kind: tuple[str, str, str]) -> Tiny:
    found = tiny(*kind, seed=90 + KINDS.index(kind))
    found.model.config = replace(found.model.config, context_length=ROOM)
    return found


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def setup(request: pytest.FixtureRequest) -> Tiny:
    return _setup(request.param)


@pytest.fixture(scope="module")
def bamba() -> Tiny:
    return _setup(KINDS[-1])


class Counted(Engine):
    """Notes the size of every prompt cell that is run."""

    def __init__(self, setup: Tiny, **options: object) -> None:
        super().__init__(setup.model, setup.exits, max_len=ROOM, **options)  # type: ignore[arg-type]
        self.cells: list[int] = []
        prefill = self.frontier.prefill
        self.frontier.prefill = lambda slot, cell, more=False: (  # type: ignore[method-assign]
            self.cells.append(len(cell)) or prefill(slot, cell, more)  # type: ignore[func-returns-value]
        )


def _tokens(count: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(random.Random(seed).choices(range(1, VOCAB), k=count))


def _request(prompt: tuple[int, ...], propagation: str = "verify", seed: int = 0) -> Request:
    sampling = Sampling(0.9, seed=seed)
    return Request(prompt, propagation, "always", run_max=3, sampling=sampling, max_tokens=4, ignore_eos=True)


# ---- prompts that begin alike


def test_a_hit_changes_no_bit(setup: Tiny) -> None:
    """Around the cell's border, after one cell and after two, in every mode; twice each, in random order.

    A cell that was first is second too, behind another: it shares nothing then.
    """
    first, second = _tokens(CELL), _tokens(CELL, 1)
    begun = (first[:-1], first, first + (1,), first + second + (1, 2), second + (3,), second + first + (4,))
    asked = [_request(prompt, MODES[i % 4]) for i, prompt in enumerate(begun)]
    rng, alone = random.Random(1), Alone(setup, max_len=ROOM)
    engine = Counted(setup, slots=2)
    traffic = visits(rng.sample(asked * 2, 2 * len(asked)), rng, cancelled=0)
    for visit, events in zip(traffic, drive(engine, traffic), strict=True):
        assert said(visit.request, events) == alone.says(visit.request)
    without = Counted(setup, slots=2, prefix_memory=0)
    drive(without, traffic)
    assert engine.prompts.hits > 0 == without.prompts.hits
    assert sum(without.cells) - sum(engine.cells) == engine.prompts.hits * CELL


def test_hits_are_counted_and_run_nothing(bamba: Tiny) -> None:
    """The last token always runs: its logits are wanted. What differs in its first token shares nothing."""
    prompt = _tokens(2 * CELL)
    engine = Counted(bamba)
    told = []
    for tail, hits, cells in (((), 0, [CELL, CELL]), ((), 1, [CELL]), ((5,), 2, [1]), ((5, 6), 2, [2])):
        engine.cells.clear()
        engine.prompts.hits = 0
        told.append(engine.generate(_request(prompt + tail)).tokens)
        assert (engine.prompts.hits, engine.cells) == (hits, cells)
    assert told[0] == told[1]
    engine.cells.clear()
    engine.generate(_request((prompt[0] % (VOCAB - 1) + 1, *prompt[1:])))
    assert engine.cells == [CELL, CELL]


def test_salts_share_nothing(bamba: Tiny) -> None:
    engine, prompt = Counted(bamba), _tokens(CELL + 3)
    for salt, cells in (("", [CELL, 3]), ("a", [CELL, 3]), ("b", [CELL, 3]), ("a", [3]), ("", [3])):
        engine.cells.clear()
        engine.generate(replace(_request(prompt), salt=salt))
        assert engine.cells == cells


def test_memory_is_bounded_and_the_oldest_goes_first(bamba: Tiny) -> None:
    """Of three prompts two fit. What was used last stays; what does not fit at all is not kept."""
    prompts = [_tokens(CELL + 1, seed) for seed in range(3)]
    measure = Counted(bamba)
    measure.generate(_request(prompts[0]))
    each = measure.prompts.bytes
    assert each > 0
    engine = Counted(bamba, prefix_memory=2 * each + each // 2)
    for number, hits in ((0, 0), (1, 0), (0, 1), (2, 0), (0, 1), (1, 0), (2, 0)):
        engine.prompts.hits = 0
        engine.generate(_request(prompts[number]))
        assert engine.prompts.hits == hits, number
        assert engine.prompts.bytes <= 2 * each
    small = Counted(bamba, prefix_memory=each - 1)
    small.generate(_request(prompts[0]))
    small.generate(_request(prompts[0]))
    assert small.prompts.bytes == small.prompts.hits == 0


# ---- samples of one prompt


def _samples(engine: Engine, request: Request, count: int) -> tuple[list[int], list[Request]]:
    numbers = engine.add_samples(request, count)
    seeds = [request.sampling.seed + i for i in range(count)]
    return numbers, [replace(request, sampling=replace(request.sampling, seed=seed)) for seed in seeds]


def _rest(engine: Engine) -> Iterator[TokenEvent]:
    while engine.busy:
        yield from engine.step()
        engine.check_integrity()


@pytest.mark.parametrize(("slots", "length"), [(3, 1), (3, CELL), (1, CELL + 7)])
def test_samples_share_one_prefill_and_differ_by_their_seeds(setup: Tiny, slots: int, length: int) -> None:
    engine, alone = Counted(setup, slots=slots, prefix_memory=0), Alone(setup, max_len=ROOM)
    propagation = MODES[length % 3]
    numbers, asked = _samples(engine, _request(_tokens(length), propagation, seed=7), 3)
    events = list(_rest(engine))
    assert sum(engine.cells) == length
    replies = [[event for event in events if event.request == number] for number in numbers]
    for request, mine in zip(asked, replies, strict=True):
        assert said(request, mine) == alone.says(request)
    assert len({tuple(event.token for event in mine) for mine in replies}) > 1


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_the_first_sample_may_be_cancelled(bamba: Tiny, steps: int) -> None:
    """Before it has begun, within its prompt, after it: the others say what they say alone, and one of them runs
    what is missing."""
    engine, alone = Counted(bamba, slots=2, prefix_memory=0), Alone(bamba, max_len=ROOM)
    numbers, asked = _samples(engine, _request(_tokens(2 * CELL + 3), seed=3), 3)
    events = [event for _ in range(steps) for event in engine.step()]
    engine.cancel(numbers[0])
    events += _rest(engine)
    for number, request in list(zip(numbers, asked, strict=True))[1:]:
        assert said(request, (event for event in events if event.request == number)) == alone.says(request)
    assert not [event for event in events if event.request == numbers[0] and event.finish]


def test_samples_of_a_remembered_prompt(bamba: Tiny) -> None:
    """Both kinds of sharing at once."""
    prompt = _tokens(CELL + 4)
    engine = Counted(bamba, slots=3)
    engine.generate(_request(prompt))
    engine.cells.clear()
    numbers, asked = _samples(engine, _request(prompt, "defer"), 3)
    events, alone = list(_rest(engine)), Alone(bamba, max_len=ROOM)
    assert engine.cells == [4]
    for number, request in zip(numbers, asked, strict=True):
        assert said(request, (event for event in events if event.request == number)) == alone.says(request)
