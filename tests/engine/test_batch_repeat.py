"""One request, sent again and again among random others, has one output."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from batch_traffic import PROPAGATIONS, Said, Whims, random_request, said
from random_models import CONTEXT, tiny
from test_engine import letters

from offramp.engine.engine import Engine
from offramp.engine.reply import TokenEvent
from offramp.engine.request import Request, Sampling

SLOTS = 8
SAMPLING = Sampling(temperature=0.8, top_p=0.95, repetition_penalty=1.1, seed=5)


@pytest.mark.parametrize("propagation", ["verify", "defer"])
def test_thirty_times_among_others(propagation: str) -> None:
    _one_output("bamba", propagation, 30)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("backbone", ["llama", "mamba", "mamba2", "bamba"])
def test_a_thousand_times_among_others(
    backbone: str, propagation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = _one_output(backbone, propagation, 1000)
    with capsys.disabled():
        print(f"\n{backbone}, {propagation}: {outputs.total():,} replies, {len(outputs)} output")


def _one_output(backbone: str, propagation: str, times: int) -> Counter[str]:
    """The outputs of a request that is sent so often, in an engine that serves others between, and how often each
    came."""
    setup = tiny(backbone, "transformer", "last_block", seed=31)
    engine = Engine(setup.model, setup.exits, letters(), slots=SLOTS, max_len=CONTEXT)
    seed = f"{backbone} {propagation}"
    rng = random.Random(seed)
    engine.scheduler.controller = Whims(rng)
    request = Request((3, 1, 4, 1, 5), propagation, "gate", sampling=SAMPLING, max_tokens=14, ignore_eos=True)
    outputs = Counter(str(reply) for reply in _replies(engine, request, times, rng))
    assert outputs.total() == times
    assert len(outputs) == 1, f"seed {seed!r}: {outputs}"
    return outputs


def _replies(engine: Engine, request: Request, times: int, rng: random.Random) -> list[Said]:
    """Others come at any time, and some of them are cancelled."""
    mine: dict[int, list[TokenEvent]] = {}
    others: list[int] = []
    while len(mine) < times or engine.busy:
        if len(mine) < times and len(engine.queue) < SLOTS:
            mine[engine.add(replace(request, priority=rng.randrange(3)))] = []
            if rng.random() < 0.3:
                others.append(engine.add(random_request(rng, rng.choice(PROPAGATIONS), most=8)))
        if others and rng.random() < 0.05:
            engine.cancel(rng.choice(others))
        for event in engine.step():
            if event.request in mine:
                mine[event.request].append(event)
        engine.check_integrity()
    return [said(request, events) for events in mine.values()]
