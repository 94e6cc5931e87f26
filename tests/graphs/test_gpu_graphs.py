"""Static steps on a CUDA device: against the CPU, graphs against the same steps uncaptured, and who waits for whom."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from part_pairs import SLOTS, WIDTH, Pair
from random_models import Tiny, tiny
from samples import SAMPLES, make
from test_graphed_engine import BACKBONES, PROPAGATIONS, engine_of, requests, said

from offramp.engine.frontier import Frontier
from offramp.engine.graphed import GraphedSegment
from offramp.engine.runner import GraphedRunner, Runner
from offramp.engine.tier import FAST
from offramp.graphs.capture import graphs_on
from offramp.graphs.program import Graphs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CUDA = torch.device("cuda")
EAGER = Graphs(CUDA, lambda step: step)


@contextmanager
def watching(mode: str) -> Iterator[list[warnings.WarningMessage]]:
    """What waits for the device within: each a warning, or an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode(mode)
        caught.clear()  # it warns of itself
        try:
            yield caught
        finally:
            torch.cuda.set_sync_debug_mode("default")


def on_device(backbone: str, gate: str = "mamba") -> Tiny:
    setup = tiny(backbone, gate, "none", seed=3, dtype=torch.float64)
    setup.model.cuda()
    setup.exits.cuda()
    return setup


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "identity"])
@torch.inference_mode()
def test_graphs_do_what_mixers_do_on_the_cpu(name: str) -> None:
    pair = Pair(make(name, WIDTH, torch.float64), 0, graphs_on(CUDA))
    for slot in range(SLOTS):
        pair.begin(slot)
    for turn in range(40):
        pair.turn(wild=turn % 9 == 5)
        if turn % 7 == 3:
            pair.skip()
    pair.assert_same_memory()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_graphs_say_what_uncaptured_steps_and_the_cpu_say(
    backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cpu = tiny(backbone, "mamba", "none", seed=3, dtype=torch.float64)
    setup = on_device(backbone)
    engines = [
        engine_of(setup, GraphedRunner(FAST, graphs_on(CUDA)), monkeypatch),
        engine_of(setup, GraphedRunner(FAST, EAGER), monkeypatch),
        engine_of(on_cpu, Runner(FAST), monkeypatch),
    ]
    for propagation in PROPAGATIONS:
        (tokens, logprobs), *others = (said(engine, requests(propagation)) for engine in engines)
        for expected, wanted in others:
            assert tokens == expected
            torch.testing.assert_close(logprobs, wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("backbone", ["llama", "mistral", "mamba", "mamba2", "bamba"])
@torch.inference_mode()
def test_a_segment_waits_for_the_device_once(backbone: str) -> None:
    """For the gate's values; the replay and what it is told wait for nothing."""
    setup = on_device(backbone)
    frontier = Frontier(setup.model, list(setup.exits), 3, 96, GraphedRunner(FAST, graphs_on(CUDA)))
    segment = frontier.segments[0]
    assert isinstance(segment, GraphedSegment)
    x_ND = frontier.model.embed(torch.tensor([1, 2, 3, 4], device=CUDA))
    for _ in range(3):  # captured by then
        segment.through(x_ND, [0, 2], [1, 3])
        segment.commit([0, 2], [1, 2])
    with watching("error"):
        segment.chain.run(x_ND, [0, 2], [1, 3])
        segment.commit([0, 2], [1, 2])
    with watching("warn") as caught:
        segment.through(x_ND, [0, 2], [1, 3])
    assert len(caught) == 1, [str(warning.message) for warning in caught]
