"""The bound of drafts: arithmetic, and cycles as the engine runs them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from offramp.bench.bound import MOST, Cycle, Recorder, acceptance, bound, rate, record
from offramp.bench.lots import Lots
from offramp.engine.engine import Engine
from offramp.engine.request import Request, Sampling
from offramp.exits.untrained import untrained_exits
from offramp.forecast.bound import gain_bound
from offramp.forecast.turns import Turns
from offramp.models.base import Model
from offramp.models.families import family_for
from offramp.models.initial import init_weights

IDEAL = Turns(1, 0.01, shallow=0.25, draft=0.0, deep={0: 0.75, 1: 0.75, 7: 0.75})
"""Passes that cost what they read: a quarter below the exit."""


def cycles(q: float, count: int = 4000) -> list[Cycle]:
    """Drafts that are right with the chance q, each by itself, in the shares that are expected."""
    reach = [q**i for i in range(MOST + 1)] + [0.0]
    return [
        Cycle(MOST, accepted)
        for accepted in range(MOST + 1)
        for _ in range(round(count * (reach[accepted] - reach[accepted + 1])))
    ]


@pytest.mark.parametrize("q", [0.3, 0.6, 0.8])
def test_ideal_passes_reach_the_formula(q: float) -> None:
    """G(q, w) of the forecast, whose rounds are drafts + 1."""
    found = bound({"always": cycles(q)}, IDEAL, below=0.25)
    assert found.gain == pytest.approx(gain_bound(q, 0.25), rel=0.005)
    assert found.accept == pytest.approx(q, abs=0.01)


def test_what_a_gate_holds_back_is_not_paid_for() -> None:
    """Half of the cycles draft nothing; in the other half everything is right."""
    gated = [Cycle(0, 0), Cycle(4, 4)]
    blind = [Cycle(4, 0), Cycle(4, 4)]
    assert rate(gated, IDEAL) == pytest.approx(6 / (1.0 + 2.0))
    found = bound({"gate": gated, "always": blind}, IDEAL, 0.25)
    assert found.policy == "gate" and found.drafts == 4


def test_no_drafts_where_none_is_right() -> None:
    found = bound({"always": [Cycle(MOST, 0)] * 9}, IDEAL, 0.25)
    assert (found.drafts, found.gain, found.accept) == (0, 1.0, 0.0)


def test_drafts_behind_a_wrong_one_were_not_judged() -> None:
    assert acceptance([Cycle(5, 2), Cycle(3, 3), Cycle(0, 0)]) == pytest.approx(5 / 6)


def test_a_recorder_is_the_averages_too() -> None:
    recorder = Recorder()
    recorder.newcomer().judged(3, 1)
    assert recorder.cycles == [Cycle(3, 1)] and recorder.accept < Recorder().accept


@pytest.fixture(scope="module")
def model() -> Model:
    raw = dict(model_type="llama", vocab_size=64, hidden_size=16, intermediate_size=24)
    raw |= dict(num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1)
    family = family_for("llama")
    return init_weights(family.build(family.config_from(raw)), 0).eval()


def test_forced_agreement_is_what_was_asked_for(model: Model) -> None:
    exits = untrained_exits((1,), 4, 16)
    engine = Engine(model, exits, max_len=2000, tier="fast", drafts=MOST, prefix_memory=0)
    request = Request((1, 2, 3), policy="always", max_tokens=1500, ignore_eos=True)
    request = replace(request, sampling=Sampling(processor=Lots(0.8)))
    found = acceptance(record(engine, [request]))
    assert found == pytest.approx(0.8, abs=0.04)


def test_lots_are_tokens_of_the_model() -> None:
    for position in range(1, 50):
        logits_V = torch.randn(11, generator=torch.Generator().manual_seed(position))
        said_V = Lots(0.5)(logits_V, [3] * position)
        assert said_V.sum() == 1 and said_V.max() == 1 and said_V.dtype == logits_V.dtype


@pytest.mark.parametrize("agreement", [0.0, 1.0])
def test_certain_lots(agreement: float) -> None:
    """1: whatever the logits are, one token. 0: never the common one but by accident."""
    generator = torch.Generator().manual_seed(0)
    said = {int(Lots(agreement)(torch.randn(1000, generator=generator), [5, 6]).argmax()) for _ in range(20)}
    assert len(said) == 1 if agreement else len(said) > 15
