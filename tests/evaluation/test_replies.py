"""Replies are what the engine says, as plain numbers, in the order of their prompts."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from random_models import CONTEXT, Tiny, tiny

from offramp.engine.reply import Generation, Stats, TokenEvent
from offramp.errors import CapacityError, DataError
from offramp.evaluation.cost import part_costs, run_cost
from offramp.evaluation.replies import Prompted, Reply, replies, reply_of
from offramp.evaluation.setting import FULL, Setting

SKIP = Setting("skip", "skip", thresholds=(0.3,))
VERIFY = Setting("verify", thresholds=(0.3,))


def prompts(count: int = 7) -> list[Prompted]:
    """Of different lengths, so that they end in another order than they begin."""
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randint(1, 37, (3 + i,), generator=generator).tolist() for i in range(count)]
    return [Prompted(f"p{i}", tuple(tokens), 4 + 5 * (i % 3)) for i, tokens in enumerate(drawn)]


@pytest.fixture(scope="module")
def model() -> Tiny:
    return tiny("mamba2", "mamba")


@pytest.mark.parametrize("setting", [FULL, SKIP, VERIFY], ids=lambda setting: setting.name)
def test_many_together_say_what_each_says_alone(model: Tiny, setting: Setting) -> None:
    asked, alone = prompts(), model.engine()
    found = replies(model.engine(slots=3), setting, asked)
    assert [reply.prompt for reply in found] == [prompt.id for prompt in asked]
    for prompt, reply in zip(asked, found, strict=True):
        said = alone.generate(setting.request(prompt.tokens, prompt.max_tokens))
        assert (reply.tokens, reply.finish) == (said.tokens, said.finish)
        assert reply.depths == tuple(event.depth for event in said.events)
        assert reply.gates == tuple(event.gate for event in said.events)
        assert reply.seconds > 0


def test_the_counters_cost_what_the_generation_cost(model: Tiny) -> None:
    prompt = prompts()[4]
    said = model.engine().generate(VERIFY.request(prompt.tokens, 12))
    again, costs = reply_of("p", said).stats, part_costs(model.model, model.exits)
    assert run_cost(again, costs) == run_cost(said.stats, costs)
    for name in ("tokens", "block_tokens", "block_passes", "head_rows", "head_passes", "drafts", "accepted"):
        assert getattr(again, name) == getattr(said.stats, name)
    assert (again.advances, again.copies) == (said.stats.advances, said.stats.copies)
    assert said.stats.drafts, "the setting must draft for this to say anything"


def test_json_and_back(model: Tiny) -> None:
    for reply in replies(model.engine(slots=3), SKIP, prompts()):
        assert Reply.from_json(json.loads(json.dumps(reply.to_json()))) == reply


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": "abc"},
        {"depths": None},
        {"colour": 3},
        {"work": {"blocks.0": {"run": [1]}}},
        {"work": [1]},
        {"gates": ["x"]},
        {"seconds": []},
    ],
    ids=str,
)
def test_anything_else_is_no_reply(change: dict[str, Any]) -> None:
    whole = Reply("p", (1,), ("a",), (2,), (None,), "eos").to_json()
    with pytest.raises(DataError, match="not a reply"):
        Reply.from_json(whole | change)
    with pytest.raises(DataError, match="not a reply"):
        Reply.from_json({"prompt": "p"})


def test_what_does_not_fit_is_refused_before_anything_runs(model: Tiny) -> None:
    engine = model.engine(slots=2)
    too_long = Prompted("long", tuple([1] * (CONTEXT + 1)), 4)
    with pytest.raises(CapacityError):
        replies(engine, FULL, [*prompts(), too_long])
    assert not engine.busy
    assert len(replies(engine, FULL, prompts())) == 7


def test_nothing_asked_nothing_said(model: Tiny) -> None:
    assert replies(model.engine(), FULL, []) == []


def test_a_reply_that_broke_off_keeps_its_text() -> None:
    events = (
        TokenEvent(5, "he", 2, 0.75, False, -1.0, 5, 0),
        TokenEvent(-1, "llo", 4, None, False, math.nan, -1, 1, "nan"),
    )
    reply = reply_of("p", Generation((5,), "hello", events, "nan", Stats(tokens=1)))
    assert (reply.text, reply.pieces, reply.depths, reply.gates) == ("hello", ("hello",), (2,), (0.75,))
