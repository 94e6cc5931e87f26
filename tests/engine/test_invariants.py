"""What must always hold (docs/architecture.md, "Exactness"), for random gates on random models, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from random_models import AFTER, BACKBONES, KIN, VOCAB, Tiny, tiny
from schedules import RandomTurns, serve

from offramp.engine.engine import Engine, fold
from offramp.engine.reply import Generation
from offramp.engine.request import Request, Sampling
from offramp.engine.row import Row
from offramp.propagation.base import Part

GATES = ("linear", "transformer", "mamba")
PROPAGATIONS = ("verify", "defer", "project", "skip", "copy_block", "copy_token")
POLICIES = (("gate", 0.5), ("confidence", 0.15), ("always", 0.5))


_PAIRS = [*((b, g) for b in BACKBONES for g in GATES), ("falcon_mamba", "linear")]
SETUPS = [(b, g, ("none", "last_block")[i % 2]) for i, (b, g) in enumerate(_PAIRS)]
LEARNT = [("mamba2", "mlp", "lens"), ("llama", "mamba", "block"), ("mamba2", "transformer", "block-gate")]
"""Bridges with weights; test_learnt_bridges.py asks the same of them in short, contract/test_grid.py of every pair."""
SETUPS += LEARNT


def _param(names: tuple[str, str, str]) -> Any:
    return pytest.param(names, id="-".join(names), marks=[pytest.mark.slow] if names in LEARNT else [])


@pytest.fixture(params=map(_param, SETUPS))
def setup(request: pytest.FixtureRequest) -> Tiny:
    return tiny(*request.param, seed=SETUPS.index(request.param))


def requests(seed: int, count: int, propagation: str) -> Iterator[Request]:
    """Random prompts, policies, sampling and limits."""
    rng = random.Random(f"{seed} {propagation}")
    for _ in range(count):
        policy, threshold = rng.choice(POLICIES)
        yield Request(
            prompt=tuple(rng.randrange(1, VOCAB) for _ in range(rng.choice([1, 2, 5, 20]))),
            propagation=propagation,
            policy=policy,
            thresholds=(threshold,),
            run_max=rng.choice([1, 3, 8, 15]),
            sampling=Sampling(
                temperature=rng.choice([0.0, 0.7, 1.0]),
                top_k=rng.choice([0, 5]),
                top_p=rng.choice([1.0, 0.9]),
                repetition_penalty=rng.choice([1.0, 1.3]),
                seed=rng.randrange(1000),
            ),
            max_tokens=rng.choice([1, 3, 30, 90]),
            ignore_eos=rng.random() < 0.5,
        )


def said(reply: Generation) -> tuple[tuple[int, ...], list[float], str]:
    return reply.tokens, [event.logprob for event in reply.events], reply.finish


def together(engine: Engine, asked: Iterable[Request]) -> list[tuple[tuple[int, ...], list[float], str]]:
    """What each says in company, which is what it says alone (below, and tests/engine/test_batch_grid.py)."""
    return [said(reply) for reply in engine.generate_all(asked)]


def test_the_exact_tier_is_exact_here(setup: Tiny) -> None:
    """Everything below compares bits; where this fails the engine says "tolerance" and they would mean nothing."""
    assert setup.engine().tier.name == "exact"


def test_never_equals_no_exits(setup: Tiny) -> None:
    asked = [request for name in PROPAGATIONS for request in requests(4, 1, name)]
    never = [replace(request, policy="never") for request in asked]
    assert together(setup.engine(slots=6), never) == together(setup.plain(slots=6), asked)


def test_verify_equals_plain(setup: Tiny) -> None:
    """Greedy and sampled, log-probabilities included, whatever the gates say."""
    asked = list(requests(5, 6, "verify"))
    replies = setup.engine(slots=6).generate_all(asked)
    assert [said(reply) for reply in replies] == together(setup.plain(slots=6), asked)
    drafts, accepted = (sum(vars(reply.stats)[name] for reply in replies) for name in ("drafts", "accepted"))
    assert drafts > accepted > 0, "the sample must hold accepted and rejected drafts"


@pytest.mark.slow
@pytest.mark.parametrize("bridge", ["none", "last_block", "lens", "block", "block-attention"])
@pytest.mark.parametrize("gate", [*GATES, "mlp"])
@pytest.mark.parametrize("backbone", BACKBONES | KIN)
def test_verify_equals_plain_often(backbone: str, gate: str, bridge: str) -> None:
    """Random sequences over all cases, 100 a case; a failure names the request that reproduces it."""
    setup = tiny(backbone, gate, bridge, seed=77)
    asked = list(requests(55, 100, "verify"))
    replies = together(setup.engine(slots=16), asked), together(setup.plain(slots=16), asked)
    for request, ours, theirs in zip(asked, *replies, strict=True):
        assert ours == theirs, request


@torch.inference_mode()
def test_defer_drained_equals_one_by_one(setup: Tiny) -> None:
    """Once everything pending has run, each state is that of the same tokens fed one by one."""
    for request in requests(6, 4, "defer"):
        engine = setup.engine()
        row = _run_until(engine, request, tokens=25)
        for s in range(1, len(engine.frontier.segments)):
            if engine.frontier.segments[s].ring.waiting[row.slot]:
                engine.frontier.commit(s, [row.slot], engine.frontier.run(s, [row.slot]).n)
        length = engine.frontier.segments[0].frontier(row.slot)
        fed = _teacher_forced(setup, request.prompt, row.tokens[len(request.prompt) : length])
        for part, other in zip(_parts(engine, row.slot), _parts(fed, 0), strict=True):
            _assert_same_state(part, row.slot, other, 0)


def test_row_does_not_depend_on_its_neighbours(setup: Tiny) -> None:
    """Rows of every propagation share three slots, come and go; each says what it says alone."""
    asked = [request for name in PROPAGATIONS for request in requests(7, 2, name)]
    random.Random(7).shuffle(asked)
    alone = [said(setup.engine().generate(request)) for request in asked]
    assert [said(fold(events)) for events in serve(setup.engine(slots=3), asked)] == alone


def test_row_does_not_depend_on_the_schedule(setup: Tiny) -> None:
    """Rows of every propagation take their turns in random order and company, some often and some seldom, drafting or
    not; in one engine all run at once, in the other fewer, so that slots change their owners."""
    asked = [request for name in PROPAGATIONS for request in requests(17, 1, name)]
    alone = [setup.engine().generate(request) for request in asked]
    for slots in (len(asked), 4):
        engine = setup.engine(slots=slots)
        engine.scheduler = RandomTurns(random.Random(17 + slots))
        for request, single, events in zip(asked, alone, serve(engine, asked), strict=True):
            assert said(fold(events)) == said(single), request
            if request.propagation != "verify":
                assert [event.depth for event in events] == [event.depth for event in single.events], request


@torch.inference_mode()
def test_after_rollback_as_if_never_seen(setup: Tiny) -> None:
    """After each judgement the row's whole state is that of plain teacher forcing on what was accepted."""
    for request in requests(8, 2, "verify"):
        engine = setup.engine()
        row = _run_until(engine, request, tokens=1)
        while row.finish is None and row.emitted < 12:
            emitted = row.emitted
            _step(engine)
            if row.emitted > emitted:
                accepted = row.tokens[len(request.prompt) : -1]
                fed = _teacher_forced(setup, request.prompt, accepted)
                for part, other in zip(_parts(engine, row.slot), _parts(fed, 0), strict=True):
                    _assert_same_state(part, row.slot, other, 0)


def test_seeded_sampling_is_the_same_drafted_or_not(setup: Tiny) -> None:
    sampling = Sampling(temperature=1.0, seed=11)
    replies = [
        setup.engine().generate(
            Request((3, 4, 5), "verify", policy, (0.5,), run_max, sampling, max_tokens=30, ignore_eos=True)
        )
        for policy, run_max in (("never", 8), ("always", 1), ("always", 15), ("gate", 8))
    ]
    assert len({reply.tokens for reply in replies}) == 1
    other = Request((3, 4, 5), "verify", "never", sampling=Sampling(temperature=1.0, seed=12), max_tokens=30)
    assert setup.engine().generate(other).tokens != replies[0].tokens


def test_lossy_replies_do_leave_and_differ() -> None:
    """So that the equalities above are not equalities of models that never leave."""
    setup = tiny("mamba2", "mamba", seed=3)
    for name in ("defer", "project", "skip", "copy_block", "copy_token"):
        request = Request((1, 2, 3), name, "always", run_max=3, max_tokens=40, ignore_eos=True)
        reply, plain = setup.engine().generate(request), setup.plain().generate(request)
        assert {event.depth for event in reply.events} == {AFTER[0], 8}
        assert reply.tokens != plain.tokens
        assert name == "defer" or reply.stats.block_tokens < plain.stats.block_tokens


def _run_until(engine: Engine, request: Request, tokens: int) -> Row:
    """The row after it emitted so many tokens, still in its slot (or ended, and the slot as it left it)."""
    engine.add(request)
    engine._admit()
    [row] = engine._running.values()
    while row.finish is None and row.emitted < tokens:
        _step(engine)
    return row


def _step(engine: Engine) -> None:
    engine.step()
    engine.check_integrity()


def _teacher_forced(setup: Tiny, prompt: tuple[int, ...], tokens: list[int]) -> Engine:
    """An engine whose slot 0 took the prompt in cells and then the tokens one by one, to the end."""
    engine = setup.engine()
    frontier = engine.frontier
    frontier.reset(0)
    frontier.prefill(0, prompt)
    for token in tokens:
        frontier.feed([0], [token])
        for s in range(len(frontier.segments)):
            frontier.commit(s, [0], frontier.run(s, [0]).n)
    return engine


def _parts(engine: Engine, slot: int) -> list[Part]:
    """Every state, nothing provisional: a tail that waits for its deep pass is dropped."""
    engine.frontier.last_block.rollback([slot])
    return [part for segment in engine.frontier.segments for part in segment.parts]


def _assert_same_state(a: Part, slot_a: int, b: Part, slot_b: int) -> None:
    mine = a.module.mixer.snapshot(a.state, slot_a)
    other = b.module.mixer.snapshot(b.state, slot_b)
    assert mine.keys() == other.keys()
    for name in mine:
        assert torch.equal(mine[name], other[name]), name
