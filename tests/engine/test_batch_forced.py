"""Replies that are given: every mode scores the tokens it is given, and says what it would have said."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from batch_traffic import PROPAGATIONS, Alone, Visit, differing, drive, said
from random_models import EOS, VOCAB, Tiny, tiny

from offramp.engine.engine import Engine
from offramp.engine.reply import Generation
from offramp.engine.request import Request, Sampling

KINDS = (("llama", "mamba", "last_block"), ("mamba2", "linear", "none"), ("bamba", "transformer", "lens"))
PROMPT = (7, 8, 9)
LOSSY = tuple(name for name in PROPAGATIONS if name != "verify")


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def setup(request: pytest.FixtureRequest) -> Tiny:
    return tiny(*request.param, seed=80 + KINDS.index(request.param))


@pytest.fixture(scope="module")
def engine(setup: Tiny) -> Engine:
    return setup.engine()


def _tokens(count: int, seed: int = 0) -> tuple[int, ...]:
    """An end of the sequence is among them, and not last."""
    found = random.Random(seed).choices(range(VOCAB), k=count)
    found[count // 2] = EOS
    return tuple(found)


def _forced(propagation: str, tokens: tuple[int, ...], heat: float = 0.0) -> Request:
    return Request(PROMPT, propagation, "always", run_max=3, sampling=Sampling(heat, seed=3), forced=tokens)


def _scores(setup: Tiny, tokens: tuple[int, ...], heat: float) -> list[float]:
    """What the whole sequence in one go says of them."""
    with torch.inference_mode():
        logits_TV = setup.model(torch.tensor([[*PROMPT, *tokens]]))[0, len(PROMPT) - 1 : -1].double()
    scores_TV = (logits_TV / (heat or 1.0)).log_softmax(-1)
    return [float(scores_TV[t, token]) for t, token in enumerate(tokens)]


@pytest.mark.parametrize("heat", [0.0, 0.5])
def test_verify_scores_as_the_model_does(setup: Tiny, engine: Engine, heat: float) -> None:
    """Drafts are the tokens that were given, so all are taken; counted as accepted are those that it would have said.
    Temperature is in the log-probability."""
    request = _forced("verify", _tokens(16), heat)
    reply, plain = engine.generate(request), setup.plain().generate(request)
    assert said(request, reply.events) == said(request, plain.events)
    assert reply.tokens == request.forced and reply.finish == "forced"
    assert sum(event.drafted for event in reply.events) == reply.stats.drafts > reply.stats.accepted
    wanted = _scores(setup, request.forced, heat)
    assert [event.logprob for event in reply.events] == pytest.approx(wanted, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("heat", [0.9, pytest.param(0.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_forced_to_say_its_own_words(engine: Engine, propagation: str, heat: float) -> None:
    """Log-probabilities, depths and choices are those of the reply that was free."""
    free = replace(
        _forced(propagation, (), heat), policy="gate", max_tokens=10, ignore_eos=True, thresholds=(0.4,)
    )
    own = engine.generate(free)
    bound = engine.generate(replace(free, forced=own.tokens, ignore_eos=False))
    assert _seen(bound, propagation) == _seen(own, propagation)
    assert [event.best for event in bound.events] == list(own.tokens)
    assert (bound.finish, own.finish) == ("forced", "max_tokens")


def _seen(reply: Generation, propagation: str) -> list[tuple[int, float, int]]:
    """Under `verify` the depths are those of drafts that were right, and drafts of given tokens always are."""
    judged = propagation == "verify"
    return [(event.token, event.logprob, 0 if judged else event.depth) for event in reply.events]


@pytest.mark.parametrize("propagation", LOSSY)
def test_what_would_have_been_said(engine: Engine, propagation: str) -> None:
    """`best` is the token that the row would have said at that place, at the depth where it said it."""
    request = _forced(propagation, _tokens(10), 0.8)
    reply = engine.generate(request)
    assert reply.tokens == request.forced and {event.depth for event in reply.events} == {2, 8}
    for t in (0, 5):
        begun = replace(request, forced=request.forced[:t] + (reply.events[t].best,))
        again = engine.generate(begun).events[t]
        assert (again.token, again.best, again.depth) == (
            again.best,
            reply.events[t].best,
            reply.events[t].depth,
        )
    assert any(event.best != event.token for event in reply.events)


def test_nothing_but_its_own_end_ends_it(engine: Engine) -> None:
    """Not an end of the sequence inside, not max_tokens; and one at the end is no other end."""
    tokens = (*_tokens(6), EOS)
    for propagation in PROPAGATIONS:
        request = replace(_forced(propagation, tokens), max_tokens=3)
        reply = engine.generate(request)
        assert (reply.tokens, reply.finish) == (tokens, "forced")
        ends = [event.finish for event in reply.events]
        assert ends == [None] * (len(tokens) - 1) + ["forced"]


def test_a_reply_that_just_fits(setup: Tiny) -> None:
    tokens = _tokens(9)
    engine = Engine(setup.model, setup.exits, max_len=len(PROMPT) + 9)
    for propagation in ("verify", "project"):
        reply = engine.generate(_forced(propagation, tokens))
        assert (reply.tokens, reply.finish) == (tokens, "forced")


def test_forced_among_free(setup: Tiny) -> None:
    """Given and chosen tokens share calls."""
    asked = [_forced(name, _tokens(6, seed), 0.8) for seed, name in enumerate(PROPAGATIONS)]
    asked += [replace(request, forced=(), max_tokens=6) for request in asked]
    traffic = [Visit(request, comes=i) for i, request in enumerate(asked)]
    assert not differing(traffic, drive(setup.engine(slots=5), traffic), Alone(setup))
