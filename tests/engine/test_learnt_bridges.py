"""Bridges with weights in the engine, one whose trunk is the gate's among them. See also test_invariants.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_models import Tiny, tiny
from schedules import serve
from test_invariants import LEARNT, said

from offramp.engine.engine import Engine
from offramp.engine.reference import reference
from offramp.engine.request import Request, Sampling
from offramp.engine.tier import self_test
from offramp.mixers.identity import Identity

PROMPT = (3, 1, 4, 1, 5)


@pytest.fixture(params=LEARNT, ids="-".join)
def setup(request: pytest.FixtureRequest) -> Tiny:
    return tiny(*request.param, seed=5)


def test_verify_equals_plain(setup: Tiny) -> None:
    engine, plain, drafts = setup.engine(), setup.plain(), 0
    for policy, sampling in (("always", Sampling()), ("gate", Sampling(temperature=1.0, top_k=9, seed=5))):
        request = Request(PROMPT, "verify", policy, (0.5,), 5, sampling, max_tokens=14, ignore_eos=True)
        reply = engine.generate(request)
        assert said(reply) == said(plain.generate(request))
        drafts += reply.stats.drafts
    assert engine.tier.name == "exact" and drafts > 5


def test_a_bridge_that_has_not_learned_is_no_bridge() -> None:
    """The same tokens, exits and log-probabilities, in a mode where the exits' logits decide."""
    setup = tiny("mamba2", "mamba", "block-gate", seed=5)
    for exit in setup.exits:
        for value in exit.bridge.up.parameters():
            torch.nn.init.zeros_(value)
    request = Request(PROMPT, "defer", "confidence", (0.15,), 5, max_tokens=12, ignore_eos=True)
    bridged = setup.engine().generate(request)
    plain = Engine(setup.model, setup.exits.without_bridges()).generate(request)
    assert said(bridged) == said(plain) and len({event.depth for event in bridged.events}) > 1
    assert [event.depth for event in bridged.events] == [event.depth for event in plain.events]


@pytest.mark.parametrize("propagation", ["defer", "project"])
@pytest.mark.parametrize("names", LEARNT, ids="-".join)
def test_lossy_replies_equal_the_slow_oracle(names: tuple[str, str, str], propagation: str) -> None:
    """Every token recomputed from the whole sequence, so a trunk that missed a token would show."""
    setup = tiny(*names, 5, torch.float64)
    setup.model.config = replace(setup.model.config, eos_token_ids=())  # the oracle heeds it
    request = Request(PROMPT, propagation, "always", run_max=2, max_tokens=10, ignore_eos=True)
    reply = setup.engine().generate(request)
    expected = reference(setup.model, setup.exits, request)
    assert [(event.token, event.depth) for event in reply.events] == expected


@torch.inference_mode()
def test_a_shared_trunk_has_one_state_and_a_block_of_its_own_another() -> None:
    for bridge, parts in (("block-gate", 1), ("block", 2)):
        engine = tiny("llama", "mamba", bridge, seed=5).engine()
        assert [len(segment.listeners) for segment in engine.frontier.segments] == [parts] * 3 + [0]
        [events] = serve(engine, [Request(PROMPT, "project", "always", max_tokens=6, ignore_eos=True)])
        assert {event.depth for event in events} == {2, 8}


@torch.inference_mode()
def test_the_self_test_reads_a_shared_trunk_through_the_bridge() -> None:
    setup = tiny("mamba2", "mamba", "block-gate", seed=5)
    assert self_test(setup.model, setup.exits)
    assert all(isinstance(exit.bridge.mixer, Identity) for exit in setup.exits)
    for exit in setup.exits:
        exit.bridge.hidden = lambda h, y: h + y.mean()  # other tokens' numbers
    assert not self_test(setup.model, setup.exits)
