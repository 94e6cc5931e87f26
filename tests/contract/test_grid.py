"""Every architecture x gate x bridge x propagation, whatever files there are, on random weights and random gates.

Here a sample in which every two plug-ins of different folders meet; of architectures only those that differ in more
than their blocks' details, and one case for each other. The whole grid is slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, product
from random import Random

import pytest
from random_models import tiny
from schedules import RandomTurns, serve
from test_invariants import requests, said

from offramp import registry
from offramp.engine.engine import fold
from offramp.engine.reply import Generation
from offramp.engine.request import Request, Sampling
from offramp.models.families import all_families
from offramp.propagation.base import Propagation

Case = tuple[str, str, str, str]
"""model_type, gate, bridge, propagation."""

FAMILIES = sorted(name for family in all_families() for name in family.model_types)
GATES = registry.names("offramp.exits.gates")
BRIDGES = registry.names("offramp.exits.bridges")
PROPAGATIONS = registry.names("offramp.propagation")
DIFFERENT = ("llama", "qwen3", "mamba", "mamba2", "falcon_mamba", "bamba")
GRID: list[Case] = list(product(FAMILIES, GATES, BRIDGES, PROPAGATIONS))


def sample(grid: Iterable[Case]) -> list[Case]:
    """Few cases that hold every pair of names that the grid holds: at each turn the one with the most new pairs."""
    pairs = {case: set(combinations(enumerate(case), 2)) for case in grid}
    wanted, chosen = set().union(*pairs.values()), []
    while wanted:
        chosen.append(max(pairs, key=lambda case: len(pairs[case] & wanted)))
        wanted -= pairs[chosen[-1]]
    return chosen


def check(backbone: str, gate: str, bridge: str, propagation: str, more: int = 0) -> None:
    """Rows of one propagation, together and alone; without exits, too, where the propagation is judged.

    Together in the engine's own order and in a random one. Compared bit for bit, which only the exact tier promises.
    After every step the frontiers and rings of all rows must agree. more: random requests beside the fixed ones.
    """
    setup = tiny(backbone, gate, bridge, seed=len(backbone + gate + bridge))
    engine = setup.engine(slots=3)
    assert engine.tier.name == "exact"
    asked = [*fixed_requests(propagation), *requests(23, more, propagation)]
    alone = [engine.generate(request) for request in asked]
    assert left_early(alone[0]), "nothing was tested: no token left"
    for scheduler in (engine.scheduler, RandomTurns(Random(23))):
        engine.scheduler = scheduler
        assert [said(fold(events)) for events in serve(engine, asked)] == [said(reply) for reply in alone]
    if registry.find("offramp.propagation", propagation, Propagation).judged:
        plain = setup.plain()
        assert [said(reply) for reply in alone] == [said(plain.generate(request)) for request in asked]


def fixed_requests(propagation: str) -> Iterator[Request]:
    """One that leaves as often as it may, one sampled and asked of the gates, one asked of the bridges' logits."""
    yield Request((3, 1, 4, 1, 5), propagation, "always", run_max=3, max_tokens=9, ignore_eos=True)
    drawn = Sampling(temperature=1.0, top_k=9, seed=5)
    yield Request((9, 2), propagation, "gate", (0.5,), sampling=drawn, max_tokens=6, ignore_eos=True)
    penalised = Sampling(repetition_penalty=1.3)
    yield Request((6,) * 18, propagation, "confidence", (0.15,), 5, penalised, max_tokens=6)


def left_early(reply: Generation) -> bool:
    return reply.stats.drafts > 0 or any(event.depth < 8 for event in reply.events)


def few() -> list[Case]:
    """The sample of the different architectures, and the others once each, under `verify`."""
    others = [name for name in FAMILIES if name not in DIFFERENT]
    once = [
        (name, GATES[i % len(GATES)], BRIDGES[i % len(BRIDGES)], "verify") for i, name in enumerate(others)
    ]
    return sample(case for case in GRID if case[0] in DIFFERENT) + once


@pytest.mark.parametrize(("backbone", "gate", "bridge", "propagation"), few())
def test_sampled_grid(backbone: str, gate: str, bridge: str, propagation: str) -> None:
    check(backbone, gate, bridge, propagation)


@pytest.mark.parametrize(("backbone", "gate", "bridge", "propagation"), few()[::5])
def test_sampled_grid_without_kernels(
    backbone: str, gate: str, bridge: str, propagation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFRAMP_KERNELS", "none")
    check(backbone, gate, bridge, propagation)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "gate", "bridge", "propagation"), GRID)
def test_full_grid(backbone: str, gate: str, bridge: str, propagation: str) -> None:
    check(backbone, gate, bridge, propagation, more=1)


def test_the_sample_holds_every_pair() -> None:
    names = [set(names) for names in zip(*GRID, strict=True)]
    assert [set(names) for names in zip(*few(), strict=True)] == names, "and every file"
    grid = [case for case in GRID if case[0] in DIFFERENT]
    assert pairs_of(grid) <= pairs_of(few()) and {case[0] for case in grid} == set(DIFFERENT)


def pairs_of(cases: Iterable[Case]) -> set[tuple[tuple[int, str], ...]]:
    return {pair for case in cases for pair in combinations(enumerate(case), 2)}
