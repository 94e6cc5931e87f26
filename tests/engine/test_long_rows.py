"""Rows of several tiles and cells in company: windows that move, ragged chunks, prompts that begin alike."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from batch_traffic import PROPAGATIONS, Alone, random_request, said
from random_models import VOCAB, Tiny, tiny
from schedules import RandomTurns, serve

from offramp.engine.engine import Engine
from offramp.mixers.attention import Attention

LONG = 800


def long_model(window: int | None, seed: int) -> Tiny:
    setup = tiny("llama", "transformer", "last_block", seed)
    for block in setup.model.blocks:
        assert isinstance(block.mixer, Attention)
        block.mixer.window = window
    setup.model.config = replace(setup.model.config, context_length=LONG)
    return setup


@pytest.mark.parametrize("window", [None, 150])
def test_long_rows_say_what_they_say_alone(window: int | None) -> None:
    setup, rng = long_model(window, seed=20), random.Random(5)
    alone = Alone(setup, max_len=LONG)
    head = [rng.randrange(1, VOCAB) for _ in range(700)]
    asked = []
    for propagation in PROPAGATIONS:
        tokens = (*head[: rng.choice([100, 250, 520, 630, 700])], rng.randrange(1, VOCAB))
        request = random_request(rng, propagation)
        asked.append(replace(request, prompt=tokens, max_tokens=30, ignore_eos=True))
    engine = Engine(setup.model, setup.exits, slots=5, max_len=LONG)
    engine.scheduler = RandomTurns(rng)  # type: ignore[assignment]
    for request, events in zip(asked, serve(engine, asked), strict=True):
        assert said(request, events) == alone.says(request), request.propagation
    assert engine.prompts.hits > 0
