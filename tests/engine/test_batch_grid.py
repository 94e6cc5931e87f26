"""Rows of one engine come, leave where they like, are cancelled and end: each says what it says alone, bit for bit."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from batch_traffic import PROPAGATIONS, Alone, Visit, Whims, differing, drive, random_request, visits
from random_models import Tiny, tiny

from offramp.engine.reply import TokenEvent
from offramp.engine.request import Request

BACKBONES = ("llama", "mamba", "mamba2", "bamba")
GATES = ("linear", "transformer", "mamba")
SLOTS = (1, 3, 16)
BRIDGES = ("none", "last_block", "lens", "block")
PAIRS = list(product(BACKBONES, GATES))


def _cells() -> list[Any]:
    """Every backbone with every gate and batch. Not slow: each pair in one batch, and one pair alone."""
    cells = list(product(PAIRS, SLOTS))
    fast = [i for i in range(len(cells)) if i == 0 or i % 3 == 1 + i // 3 % 2]
    return [
        pytest.param(
            *pair, slots, id="-".join((*pair, str(slots))), marks=[] if i in fast else pytest.mark.slow
        )
        for i, (pair, slots) in enumerate(cells)
    ]


def _setup(backbone: str, gate: str) -> Tiny:
    number = PAIRS.index((backbone, gate))
    return tiny(backbone, gate, BRIDGES[number % 4], seed=100 + number)


def _run(setup: Tiny, slots: int, traffic: list[Visit], seed: str) -> list[list[TokenEvent]]:
    engine = setup.engine(slots=slots)
    engine.scheduler.controller = Whims(random.Random(seed))
    return drive(engine, traffic)


def _mixed(rng: random.Random, count: int) -> list[Request]:
    """Of every propagation, in any order; one of each leaves whenever it may."""
    found = [random_request(rng, name, most=8) for name in PROPAGATIONS for _ in range(count)]
    found[::count] = [replace(request, policy="always", max_tokens=8) for request in found[::count]]
    return rng.sample(found, len(found))


@pytest.mark.parametrize(("backbone", "gate", "slots"), _cells())
def test_rows_of_all_propagations_say_what_they_say_alone(backbone: str, gate: str, slots: int) -> None:
    seed = f"{backbone} {gate} {slots}"
    setup, rng = _setup(backbone, gate), random.Random(seed)
    traffic = visits(_mixed(rng, 1 if slots < 16 else 2), rng)
    events = _run(setup, slots, traffic, seed)
    assert not differing(traffic, events, Alone(setup)), f"seed {seed!r}"
    depths = {event.depth for mine in events for event in mine}
    assert {2, 8} <= depths, "nothing left, or nothing stayed"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize(("backbone", "gate"), PAIRS)
def test_rows_of_one_propagation_say_what_they_say_alone(backbone: str, gate: str, propagation: str) -> None:
    setup = _setup(backbone, gate)
    alone = Alone(setup)
    for slots in SLOTS:
        seed = f"{backbone} {gate} {slots} {propagation}"
        rng = random.Random(seed)
        asked = [random_request(rng, propagation, most=30) for _ in range(20)]
        traffic = visits(asked, rng, every=rng.choice([0, 1, 4]))
        assert not differing(traffic, _run(setup, slots, traffic, seed), alone), f"seed {seed!r}"


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_verify_equals_plain_decoding_in_two_thousand_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    """Every backbone, gate and batch, half of the sequences sampled; the line at the end says what was compared."""
    seen: Counter[str] = Counter()
    wrong = []
    for backbone, gate in PAIRS:
        setup = _setup(backbone, gate)
        alone = Alone(setup)
        for slots in SLOTS:
            seed = f"{backbone} {gate} {slots} often"
            rng = random.Random(seed)
            asked = [random_request(rng, "verify", most=30) for _ in range(56)]
            traffic = visits(asked, rng, every=rng.choice([0, 1, 4]), cancelled=0)
            events = _run(setup, slots, traffic, seed)
            wrong += [(seed, *pair) for pair in differing(traffic, events, alone)]
            seen += _counted(asked, events)
    with capsys.disabled():
        print(
            f"\n{seen['sequences']:,} sequences under verify ({seen['sampled']:,} sampled), {seen['tokens']:,} "
            f"tokens, {seen['drafts']:,} drafts, {seen['accepted']:,} accepted; {len(wrong)} differ from plain"
        )
    assert not wrong
    assert seen["sequences"] >= 2000 and seen["drafts"] > seen["accepted"] > 0


def _counted(asked: list[Request], events: list[list[TokenEvent]]) -> Counter[str]:
    stats = [mine[-1].stats for mine in events]
    return Counter(
        sequences=len(asked),
        sampled=sum(request.sampling.temperature > 0 for request in asked),
        tokens=sum(len(mine) for mine in events),
        drafts=sum(found.drafts for found in stats if found),
        accepted=sum(found.accepted for found in stats if found),
    )
