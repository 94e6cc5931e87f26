"""Not-a-number in one request ends that request, and says so; its neighbours and those after it notice nothing.

A token whose embedding is NaN or infinite stands for whatever makes a model's numbers overflow.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch
from batch_traffic import PROPAGATIONS, Alone, Visit, differing, drive, random_request, said
from random_models import VOCAB, Tiny, tiny

from offramp.engine.reply import TokenEvent
from offramp.engine.request import Request, Sampling

KINDS = (
    ("llama", "mamba", "last_block"),
    ("mamba2", "transformer", "none"),
    ("bamba", "linear", "last_block"),
)


@pytest.fixture(params=KINDS, ids="-".join)
def setup(request: pytest.FixtureRequest) -> Tiny:
    return tiny(*request.param, seed=40 + KINDS.index(request.param))


def _poison(setup: Tiny, token: int, value: float = math.nan) -> None:
    with torch.no_grad():
        setup.model.embed.weight[token] = value  # type: ignore[union-attr]


def _request(propagation: str, seed: int = 0, run_max: int = 8) -> Request:
    sampling = Sampling(0.9, seed=seed)
    return Request((5, 6), propagation, "always", (0.5,), run_max, sampling, max_tokens=12, ignore_eos=True)


def _company(setup: Tiny, without: int) -> list[Request]:
    """Neighbours that never meet the token: each is forced to say others."""
    rng = random.Random(9)
    fine = [token for token in range(1, VOCAB) if token != without]
    asked = [random_request(rng, name) for name in ("verify", "defer", "project", "copy_block")]
    return [
        replace(request, prompt=tuple(rng.choices(fine, k=4)), forced=tuple(rng.choices(fine, k=6)))
        for request in asked
    ]


def _among(setup: Tiny, sick: list[Request], token: int, value: float) -> list[list[TokenEvent]]:
    """What sick requests say among neighbours, who say beside them what they said alone before the poison.

    There are fewer slots than requests: some neighbours follow a sick row in its slot.
    """
    healthy = _company(setup, token)
    before = Alone(setup)
    wanted = [before.says(request) for request in healthy]
    _poison(setup, token, value)
    requests = random.Random(2).sample([*sick, *healthy], len(sick) + len(healthy))
    events = drive(setup.engine(slots=4), [Visit(request) for request in requests])
    told = dict(zip(requests, events, strict=True))
    assert [said(request, told[request]) for request in healthy] == wanted
    return [told[request] for request in sick]


@pytest.mark.parametrize("value", [math.inf, pytest.param(math.nan, marks=pytest.mark.slow)])
def test_in_a_prompt(setup: Tiny, value: float) -> None:
    sick = [replace(_request(name), prompt=(4, 7, 5)) for name in PROPAGATIONS]
    for [event] in _among(setup, sick, 7, value):
        assert (event.token, event.finish, event.index) == (-1, "nan", 0)
        assert event.error is not None and "after 0 generated tokens are not numbers" in event.error


@pytest.mark.parametrize("value", [math.nan, pytest.param(-math.inf, marks=pytest.mark.slow)])
def test_in_a_chunk(setup: Tiny, value: float) -> None:
    """The token is taken in last of several that wait: those before it are said as ever."""
    healthy = {name: list(setup.engine().stream(_request(name))) for name in PROPAGATIONS}
    token = next(  # that is said behind one that left, so it will wait together with it
        event.token
        for before, event in zip(healthy["verify"], healthy["verify"][1:], strict=False)
        if before.drafted and event.token not in (5, 6, healthy["verify"][0].token)
    )
    told = dict(
        zip(PROPAGATIONS, _among(setup, list(map(_request, PROPAGATIONS)), token, value), strict=True)
    )
    for name in PROPAGATIONS:
        fine, mine = [e.token for e in healthy[name]], [e.token for e in told[name]]
        if token not in fine[:-1]:  # the last one said is never taken in
            assert mine == fine
            continue
        assert mine == [*fine[: fine.index(token) + 1], -1]
        assert told[name][-1].finish == "nan" and told[name][-1].error
    assert told["verify"][-1].finish == "nan"


def test_in_a_draft_that_is_rejected(setup: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken in by the first segment, and taken back: the row says what it says without the poison."""
    request, fed, engine = _request("verify", run_max=4), set[int](), setup.engine()
    feed = engine.frontier.feed
    monkeypatch.setattr(
        engine.frontier, "feed", lambda rows, tokens: (fed.update(tokens), feed(rows, tokens))[1]
    )
    reply = engine.generate(request)
    token = min(fed - {*request.prompt, *reply.tokens})
    [events] = _among(setup, [request], token, math.nan)
    assert said(request, events) == said(request, reply.events)
    assert events[-1].finish == "max_tokens" and events[-1].error is None


def test_where_it_is_met_does_not_depend_on_company(setup: Tiny) -> None:
    """Sick rows beside sick rows: each ends where it ends alone; under `verify`, where the model does without exits."""
    for token in range(9, VOCAB, 7):
        _poison(setup, token)
    rng = random.Random(3)
    traffic = [
        Visit(replace(random_request(rng, name), prompt=(3, i))) for i in (1, 2) for name in PROPAGATIONS
    ]
    events = drive(setup.engine(slots=3), traffic)
    assert not differing(traffic, events, Alone(setup))
    assert (
        len(
            {visit.request.propagation for visit, mine in zip(traffic, events, strict=True) if mine[-1].error}
        )
        > 3
    )
