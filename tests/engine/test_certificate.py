"""A request with a certificate runs as certified, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_models import tiny

from offramp.engine.engine import Engine
from offramp.engine.promise import binding_of, under
from offramp.engine.request import Request, Sampling
from offramp.errors import CapacityError, UsageError
from offramp.exits.certificate import Certificate, Step
from offramp.models.fingerprint import fingerprint

PROMPT = (3, 1, 4, 1, 5)
TINY = tiny()
ENGINE = TINY.engine()
CERTIFIED = Request(PROMPT, "defer", thresholds=(0.3, 0.3, 0.3), max_tokens=12, run_max=5)
NEVER = Step((1.0, 1.0, 1.0))


def certificate(engine: Engine = ENGINE, request: Request = CERTIFIED) -> Certificate:
    binding = binding_of(engine.admission.facts, "none", request)
    path = (NEVER, Step(request.thresholds, 0.01, 0.01, 4.0))
    return Certificate(binding, "agreement", 0.05, 0.95, 1, path, 300, "data")


def test_what_is_certified_runs_as_it_would_without() -> None:
    promised = under(certificate(), Request(PROMPT, max_tokens=12))
    assert promised == replace(CERTIFIED, certificate=certificate())
    assert ENGINE.generate(promised).tokens == ENGINE.generate(CERTIFIED).tokens


def test_shorter_prompts_and_other_seeds_are_certified_too() -> None:
    promised = under(certificate(), Request(PROMPT[:2], max_tokens=12, sampling=Sampling(seed=7), priority=2))
    assert len(ENGINE.generate(promised).tokens) == 12


def test_beginnings_of_replies_are_not_certified() -> None:
    """They may lose more than the whole: calm's bar falls with max_tokens, and a late loop dilutes early mistakes."""
    short = Engine(TINY.model, TINY.exits, max_len=len(PROMPT) + 11)
    with pytest.raises(CapacityError, match="max_len of 17"):
        short.add(replace(CERTIFIED, certificate=certificate()))
    verified = replace(CERTIFIED, propagation="verify", certificate=certificate())
    assert len(short.generate(verified).tokens) == 11
    assert len(ENGINE.generate(replace(verified, max_tokens=3)).tokens) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"propagation": "skip"}, "propagation is skip, certified is defer"),
        ({"policy": "confidence"}, "policy is confidence, certified is gate"),
        ({"thresholds": (0.3, 0.3, 0.2)}, "thresholds is"),
        ({"thresholds": (0.2,)}, "thresholds is"),
        ({"run_max": 6}, "run_max is 6, certified is 5"),
        ({"max_tokens": 13}, "max_tokens is 13, certified is 12"),
        ({"max_tokens": 3}, "max_tokens is 3, certified is 12"),
        ({"prompt": (*PROMPT, 9)}, "length in tokens is 6, certified is at most 5"),
        ({"sampling": Sampling(temperature=0.5)}, "temperature is 0.5, certified is 0.0"),
        ({"sampling": Sampling(top_k=3)}, "top_k is 3"),
        ({"sampling": Sampling(repetition_penalty=1.5)}, "repetition_penalty is 1.5"),
        ({"sampling": Sampling(penalty_window=3)}, "penalty_window is 3"),
        ({"sampling": Sampling(processor=lambda logits_V, before: logits_V)}, "processor"),
        ({"ignore_eos": True}, "ignores ends"),
        ({"forced": (1, 2)}, "forced"),
    ],
)
def test_what_differs_is_refused_by_name(change: dict[str, object], words: str) -> None:
    asked = replace(CERTIFIED, certificate=certificate(), **change)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=words):
        ENGINE.add(asked)
    assert not ENGINE.busy


def test_one_threshold_for_all_exits_is_those_of_each() -> None:
    each = ENGINE.generate(replace(CERTIFIED, certificate=certificate()))
    assert (
        ENGINE.generate(replace(CERTIFIED, thresholds=(0.3,), certificate=certificate())).tokens
        == each.tokens
    )


def test_stop_strings_are_part_of_it() -> None:
    known = replace(certificate(), binding=replace(certificate().binding, stop=("\n",)))
    with pytest.raises(UsageError, match="stop"):
        ENGINE.add(replace(CERTIFIED, certificate=known))


@pytest.mark.parametrize("change", ["model", "exits", "selection", "dtype"])
def test_other_weights_are_refused(change: str) -> None:
    if change == "selection":
        other, words = Engine(TINY.model, TINY.exits.select((2, 4)), max_len=96), "the exits"
        asked = replace(CERTIFIED, thresholds=(0.3,), certificate=certificate())
    else:
        made = tiny(seed=1) if change != "dtype" else tiny(dtype=torch.bfloat16)
        pair = {"model": (made.model, TINY.exits), "exits": (TINY.model, made.exits)}
        model, exits = pair.get(change, (made.model, made.exits))
        other, words = (
            Engine(model, exits, max_len=96),
            {"dtype": "number format"}.get(change, f"the {change}"),
        )
        asked = replace(CERTIFIED, certificate=certificate())
    with pytest.raises(UsageError, match=words):
        other.add(asked)


def test_a_weight_that_moved_is_another_exit() -> None:
    mine = tiny()
    known = certificate(mine.engine())
    with torch.no_grad():
        next(mine.exits.parameters()).view(-1)[0] += 1e-4
    with pytest.raises(UsageError, match="the exits"):
        mine.engine().add(replace(CERTIFIED, certificate=known))


@pytest.mark.parametrize("what", ["weight", "eos"])
def test_so_is_another_model(what: str) -> None:
    """`fingerprint` reads 64 values of each weight, and does not know what ends a reply."""
    mine = tiny()
    known, named = certificate(mine.engine()), fingerprint(mine.model)
    if what == "weight":
        with torch.no_grad():
            mine.model.embed.weight.view(-1)[1] += 1e-4
    else:
        mine.model.config = replace(mine.model.config, eos_token_ids=(2,))
    assert fingerprint(mine.model) == named
    with pytest.raises(UsageError, match="the model"):
        mine.engine().add(replace(CERTIFIED, certificate=known))


def test_never_lets_nothing_leave() -> None:
    promised = under(replace(certificate(), chosen=0), Request(PROMPT, max_tokens=12))
    assert {event.depth for event in ENGINE.generate(promised).events} == {8}


def test_verified_requests_keep_every_promise() -> None:
    asked = replace(CERTIFIED, propagation="verify", certificate=certificate())
    assert ENGINE.generate(asked).tokens == TINY.plain().generate(Request(PROMPT, max_tokens=12)).tokens
