"""An exception in the middle of a turn: rows that ran are given up, nobody goes on from half a state."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from batch_traffic import Alone, said
from random_models import tiny
from torch import Tensor

from offramp.engine.engine import Engine
from offramp.engine.request import Request, Sampling
from offramp.errors import OfframpError

INNOCENT = Request((5, 6), "defer", "always", run_max=3, max_tokens=20, ignore_eos=True)


class Bang(Exception):
    """Not one of ours."""


def failing(after: int) -> Request:
    """A request whose processor gives up once it has been asked so often."""
    calls = 0

    def processor(logits_V: Tensor, before: Sequence[int]) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Bang
        return logits_V

    sampling = Sampling(processor=processor)
    return Request((7,), "defer", "always", sampling=sampling, max_tokens=30, ignore_eos=True)


@pytest.mark.parametrize("after", range(0, 8, 2))
def test_a_failed_turn_gives_up_what_ran_and_nothing_else(after: int) -> None:
    setup = tiny("mamba2", "mamba", seed=1)
    engine, alone = setup.engine(slots=2), Alone(setup)
    engine.add(INNOCENT)
    engine.add(failing(after))
    waits = engine.add(INNOCENT)
    with pytest.raises(Bang):
        while True:
            engine.step()
    events = []
    while engine.busy:
        events += engine.step()
        engine.check_integrity()
    late = [event for event in events if event.request == waits]
    assert said(INNOCENT, late) == alone.says(INNOCENT), "it waited, and is as if nothing had been"
    assert {event.request for event in events if event.finish} == {waits}


def test_readers_of_rows_that_were_given_up_are_told() -> None:
    engine = tiny("llama", "linear", seed=2).engine(slots=2)
    innocent, bad = engine.stream(INNOCENT), engine.stream(failing(3))
    with pytest.raises(Bang):
        while True:
            next(innocent)
            next(bad)
    with pytest.raises(OfframpError, match="request 0 was given up"):
        list(innocent)
    assert engine.generate(INNOCENT).finish and not engine.busy


def test_a_cancelled_stream_does_not_spin() -> None:
    engine = tiny("llama", "linear", seed=2).engine()
    stream = engine.stream(INNOCENT)
    next(stream)
    engine.cancel(0)
    with pytest.raises(OfframpError, match="given up"):
        list(stream)


def test_a_processor_may_work_in_place() -> None:
    """Samples of one prompt share its logits, and an exit's are looked at twice."""

    def in_place(logits_V: Tensor, before: Sequence[int]) -> Tensor:
        return logits_V.mul_(0.5)

    def pure(logits_V: Tensor, before: Sequence[int]) -> Tensor:
        return logits_V * 0.5

    setup = tiny("llama", "linear", seed=3)
    first = []
    for processor in (in_place, pure):
        engine: Engine = setup.engine(slots=3)
        engine.add_samples(Request((5, 6), max_tokens=4, sampling=Sampling(1.0, processor=processor)), 3)
        events = []
        while engine.busy:
            events += engine.step()
        first.append([(event.request, event.token, event.logprob) for event in events])
    assert first[0] == first[1]
