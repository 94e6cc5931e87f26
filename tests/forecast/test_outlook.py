"""Gains are the engine's own promises, and those are what the engine then does."""

from __future__ import annotations

import pytest
from clocks import BLOCKS, Unit, stated
from hypothesis import given
from hypothesis import strategies as st
from random_models import CONTEXT, tiny

from offramp.engine.controller import promises
from offramp.engine.engine import Engine
from offramp.engine.request import Request
from offramp.exits.untrained import untrained_exits
from offramp.forecast.agreement import LENS, agreement_by_depth
from offramp.forecast.bound import gain_bound, gain_bound_alone
from offramp.forecast.outlook import cycle_gain, outlook
from offramp.forecast.prompts import own_text
from offramp.forecast.setting import NO_GATE, PERFECT, Setting, Skill

shares = st.floats(0.05, 0.95)
REAL = Skill(0.7, 0.85)


@given(shares, st.integers(1, BLOCKS - 1))
def test_drafting_always_on_free_heads_reaches_the_bound(agreement: float, after: int) -> None:
    """On a machine that only waits for weights; a cycle has eight drafts at most."""
    gain, drafts = cycle_gain(Unit(), Setting(after, gated=False), NO_GATE, agreement, 16)
    bound = gain_bound(agreement, after / BLOCKS)
    assert gain <= bound + 1e-9
    if drafts < 8:
        assert gain == pytest.approx(bound)


@given(shares, st.integers(1, BLOCKS - 1), st.integers(1, 32))
def test_no_gate_gains_more_than_one_that_knows(agreement: float, after: int, rows: int) -> None:
    item = outlook(Unit(head=0.5, gate=0.1), stated(after, agreement), "verify", REAL, (rows,))
    assert item is not None
    [gain] = item.gains
    assert gain.low == gain.expected == gain.high <= gain.most + 1e-9
    assert gain.expected <= gain_bound_alone(agreement, after / BLOCKS) + 1e-9


def test_the_interval_of_the_agreement_becomes_one_of_the_gain() -> None:
    item = outlook(Unit(), stated(2, 0.7), "verify", REAL, (4,))
    lower, higher = (outlook(Unit(), stated(2, value), "verify", REAL, (4,)) for value in (0.6, 0.8))
    assert item and lower and higher
    assert lower.best.expected < item.best.expected < higher.best.expected


def test_above_the_ridge_drafts_gain_nothing() -> None:
    item = outlook(Unit(each=1.0), stated(2, 0.8), "verify", REAL, (64,))
    assert item and item.best.expected < 1.01


@pytest.mark.parametrize("agreement", [0.0, 0.3, 0.9, 1.0])
def test_what_a_skill_means(agreement: float) -> None:
    """recall = right and leaving of all right; precision = right of all leaving."""
    found = REAL.prospect(agreement, Setting(2))
    assert found.leave * found.accept == pytest.approx(0.7 * agreement)
    assert found.accept == max(0.85, agreement)
    assert REAL.wrong(agreement) == pytest.approx(found.leave * (1 - found.accept))
    perfect = PERFECT.prospect(agreement, Setting(2))
    assert (perfect.leave, perfect.accept) == (agreement, 1.0)
    always = NO_GATE.prospect(agreement, Setting(2))
    assert (always.leave, always.accept) == (1.0 if agreement else 0.0, agreement)


def test_lossy_modes_say_what_they_change() -> None:
    exact, lossy = (outlook(Unit(), stated(2, 0.6), name, REAL, (1, 8)) for name in ("verify", "defer"))
    assert exact and lossy and exact.changed == 0.0
    assert lossy.changed == pytest.approx(0.7 * 0.6 / 0.85 * 0.15)
    assert all(gain.gated for gain in lossy.gains), "without a gate every token would leave"


def test_the_fewest_rows_that_gain_as_much() -> None:
    item = outlook(Unit(each=0.0), stated(2, 0.8), "verify", NO_GATE, (2, 4, 8))
    assert item and item.best.rows == 2


@pytest.mark.parametrize("backbone", ["llama", "mamba2"])
def test_tokens_a_cycle_are_what_the_engine_says(backbone: str) -> None:
    """Every token drafted at an untrained exit: the agreement on the model's own text is the acceptance."""
    model = tiny(backbone).model
    prompts = [[1 + (7 * i + j) % 36 for j in range(5)] for i in range(16)]
    stretches = own_text(model, prompts, CONTEXT - 5)
    [found] = [item for item in agreement_by_depth(model, stretches, (6,)) if item.bridge == LENS]
    drafts = 3
    engine = Engine(model, untrained_exits((6,), 8, 32), slots=4, max_len=CONTEXT, tier="fast", drafts=drafts)
    requests = [Request(tuple(ids), policy="always", max_tokens=CONTEXT - 5) for ids in prompts]
    replies = engine.generate_all(requests)
    tokens = sum(len(reply.tokens) - 1 for reply in replies)  # the prompt gives the first
    deep = sum(reply.stats.work["blocks.7"].passes["run"] for reply in replies)
    prospect = NO_GATE.prospect(found.share.value, Setting(6))
    promised = promises([prospect], Unit().timings(Setting(6), 1), 8)[drafts].tokens
    assert 0.1 < found.share.value < 0.97
    assert tokens / deep == pytest.approx(promised, rel=0.15)
