"""Which prompt cells are remembered: never under a foreign key, never without those before them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from batch_traffic import Alone, said
from random_models import VOCAB, tiny

from offramp.engine.engine import Engine
from offramp.engine.request import Request
from offramp.mixers.base import CELL

ROOM = 7 * CELL


def prompt(cells: int, first: int = 1) -> tuple[int, ...]:
    return tuple(1 + (first + i * i) % (VOCAB - 1) for i in range(cells * CELL + 3))


def engine_for(backbone: str, cells: float, **options: int) -> tuple[Engine, Alone]:
    """With room for so many cells."""
    setup = tiny(backbone, "linear", seed=3)
    setup.model.config = replace(setup.model.config, context_length=ROOM)
    probe = Engine(setup.model, setup.exits, max_len=ROOM)
    probe.generate(Request(prompt(1), max_tokens=1))
    limit = int(probe.prompts.bytes * cells)
    return Engine(setup.model, setup.exits, max_len=ROOM, prefix_memory=limit, **options), Alone(setup, ROOM)


@pytest.mark.parametrize("backbone", ["llama", "mamba2"])
def test_a_salt_cannot_stand_for_tokens(backbone: str) -> None:
    """Were salt and tokens hashed one behind the other, this salt would be the victim's first cell."""
    engine, alone = engine_for(backbone, 8)
    tokens = prompt(3)
    engine.generate(Request(tokens, max_tokens=1))
    with pytest.raises(Exception, match="salt"):
        Request(tokens[CELL:], salt="".join(chr(t) + "\0" * 7 for t in tokens[:CELL]))
    request = Request(tokens[CELL:], salt="&" * CELL, max_tokens=3)
    hits = engine.prompts.hits
    assert said(request, engine.stream(request)) == alone.says(request) and engine.prompts.hits == hits


@pytest.mark.parametrize("cells", [3.5, 5.5])
def test_a_prompt_longer_than_the_memory_still_finds_its_beginning(cells: float) -> None:
    engine, alone = engine_for("llama", cells)
    request = Request(prompt(6), max_tokens=2)
    for turn in range(3):
        assert said(request, engine.stream(request)) == alone.says(request)
        assert engine.prompts.hits == turn * int(cells)


def test_a_common_beginning_outlives_what_follows_it() -> None:
    engine, _ = engine_for("llama", 4.5)
    head = prompt(4)[: 4 * CELL]
    for other in range(4):
        engine.generate(Request(head + prompt(1, first=other + 5), max_tokens=1))
    assert engine.prompts.hits == 3 * 4
