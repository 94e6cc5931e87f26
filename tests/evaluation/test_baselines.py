"""What gates are held against: random exits, dropped blocks, and an oracle."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_models import AFTER, CONTEXT, Tiny, tiny

from offramp.engine.engine import Engine
from offramp.engine.request import Request
from offramp.errors import UsageError
from offramp.evaluation.evaluate import Evaluation, Item, evaluate
from offramp.evaluation.matched import random_at_rate
from offramp.evaluation.measures import depth_histogram
from offramp.evaluation.oracle import oracle_depths, oracle_work
from offramp.evaluation.replies import Prompted
from offramp.evaluation.setting import Setting
from offramp.models.pruned import first_and_last, pruned
from offramp.policies.base import Signal
from offramp.policies.random import Random

BLOCKS = 8
PROMPT = (5, 6, 7, 8)


def signal(rows: int, exit: int = 0) -> Signal:
    hidden_RD = torch.randn(rows, 16, generator=torch.Generator().manual_seed(0))
    same = [0] * rows
    return Signal(exit, 2, BLOCKS, torch.zeros(rows), hidden_RD, hidden_RD, same, same, [True] * rows)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_random_leaves_at_its_rate(threshold: float) -> None:
    leave_R, _ = Random((threshold,) * 2)(signal(4000), [()] * 4000)
    assert float(leave_R.float().mean()) == pytest.approx(1 - threshold, abs=0.03)


def test_random_draws_anew_at_each_exit() -> None:
    """Half of those that stay at the first leave at the second."""
    first, second = (Random((0.5, 0.5)).score(signal(4000, exit)) > 0.5 for exit in (0, 1))
    assert float((~first & second).float().sum() / (~first).sum()) == pytest.approx(0.5, abs=0.04)


def test_random_belongs_to_the_row() -> None:
    """It leaves where it does alone, among others and however drafts are scheduled."""
    one = tiny("mamba2", "mamba")
    request = Request(PROMPT, "project", "random", (0.6,), max_tokens=25, ignore_eos=True)
    others = [Request((i, 2 + i), "skip", "random", (0.5,), max_tokens=20) for i in range(1, 6)]
    alone = one.engine().generate(request)
    among = one.engine(slots=4).generate_all([request, *others])[0]
    said = [(event.token, event.depth) for event in alone.events]
    assert said == [(event.token, event.depth) for event in among.events]
    assert len({depth for _, depth in said}) > 2
    judged = replace(request, propagation="verify")
    tokens = {one.engine(drafts=drafts).generate(judged).tokens for drafts in (1, 3, 15)}
    assert tokens == {one.plain().generate(replace(judged, policy="never")).tokens}


@pytest.mark.parametrize("backbone", ["llama", "mamba2"])
def test_a_pruned_model_is_its_blocks(backbone: str) -> None:
    model = tiny(backbone).model
    kept = (0, 1, 4, 7)
    small = pruned(model, kept)
    tokens_1T = torch.tensor([PROMPT])
    x_1TD = model.embed(tokens_1T)
    for i in kept:
        x_1TD = model.blocks[i](x_1TD)
    assert torch.equal(small(tokens_1T), model.logits(x_1TD))
    assert small.config.num_blocks == len(small.blocks) == 4 and len(model.blocks) == BLOCKS
    assert small.blocks[2] is model.blocks[4], "weights are shared"
    said = Engine(small, None, max_len=CONTEXT).generate(Request(PROMPT, policy="never", max_tokens=4))
    assert said.tokens[0] == int(model.logits(x_1TD)[0, -1].argmax())


@pytest.mark.parametrize("kept", [(), (1, 0), (0, 0), (0, 8), (-1, 0)], ids=str)
def test_blocks_that_are_not_there_cannot_be_kept(kept: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="0 to 7, ascending"):
        pruned(tiny().model, kept)


def test_the_paper_s_pruned_baseline() -> None:
    assert first_and_last(8, 3) == (0, 1, 2, 3, 7)
    assert first_and_last(8, 6) == (0, 7)
    for dropped in (0, 7, 8, -1):
        with pytest.raises(UsageError, match="1 to 6"):
            first_and_last(8, dropped)


def own_text(one: Tiny) -> tuple[int, ...]:
    request = Request(PROMPT, policy="never", max_tokens=30, ignore_eos=True)
    return one.plain().generate(request).tokens


def chosen_at(one: Tiny, exit: int, tokens: tuple[int, ...]) -> dict[int, int]:
    """What the engine's exit chooses for every other token of a given text, each after one that reached the end."""
    thresholds = tuple(0.0 if i == exit else 1.0 for i in range(len(AFTER)))
    request = Request(PROMPT, "defer", "random", thresholds, run_max=1, forced=tokens)
    events = one.engine().generate(request).events
    return {i: event.best for i, event in enumerate(events) if event.depth == AFTER[exit]}


@pytest.mark.parametrize("backbone", ["llama", "mamba2"])
@pytest.mark.parametrize(
    ("gate", "bridge"), [("linear", "none"), ("mamba", "block"), ("linear", "last_block")]
)
def test_the_oracle_knows_what_the_exits_choose(backbone: str, gate: str, bridge: str) -> None:
    """Against the engine, one exit after the other, where it lets every other token leave."""
    one = tiny(backbone, gate, bridge)
    tokens = own_text(one)
    depths = oracle_depths(one.model, one.exits, PROMPT, tokens)
    assert len(depths) == len(tokens) and depths[0] == BLOCKS
    assert len(set(depths[1:])) > 1
    for exit, after in enumerate(AFTER):
        said = chosen_at(one, exit, tokens)
        assert len(said) > 10
        for i, token in said.items():
            if depths[i] >= after:  # no shallower one agrees
                assert (depths[i] == after) == (token == tokens[i]), i


def test_the_oracle_of_nothing() -> None:
    one = tiny()
    assert oracle_depths(one.model, one.exits, PROMPT, []) == []
    assert oracle_depths(one.model, (), PROMPT, (1, 2)) == [BLOCKS, BLOCKS]


def test_what_the_oracle_could_skip() -> None:
    depths = [8, 2, 8, 6]
    assert oracle_work(depths, 8, runs_last_block=False) == (8.0, 24.0)
    assert oracle_work(depths, 8, runs_last_block=True) == (6.0, 24.0)
    assert oracle_work([], 8, runs_last_block=False) == (0.0, 0.0)


def test_no_rule_skips_more_than_the_oracle_without_another_text() -> None:
    """Drafts of a text that is the full model's own: those that are accepted are the oracle's, or fewer."""
    one = tiny()
    first = replace(one, exits=one.exits.select(AFTER[:1]))
    tokens = own_text(one)
    could = sum(depth == AFTER[0] for depth in oracle_depths(one.model, first.exits, PROMPT, tokens))
    said = first.engine().generate(
        Request(PROMPT, policy="always", run_max=15, max_tokens=30, ignore_eos=True)
    )
    assert 0 < sum(event.drafted for event in said.events) <= could


@pytest.mark.parametrize("run_max", [2, 15])
def test_random_exits_at_the_rate_of_a_gate(run_max: int) -> None:
    """Also where run_max keeps many tokens from leaving."""
    one = tiny()
    gated = Setting("gate", "project", thresholds=(0.45,), run_max=run_max)
    items = [Item(Prompted(str(i), (1 + i, 2, 3 + i), 80, ends=False)) for i in range(12)]
    engine = one.engine(slots=6)
    known = evaluate(engine, gated, items)
    found = evaluate(engine, random_at_rate(gated, known, AFTER), items)
    shares = [
        {depth: count / sum(tokens.values()) for depth, count in tokens.items()}
        for tokens in map(depth_histogram, (known, found))
    ]
    assert 0.1 < shares[0][BLOCKS] < 0.9
    assert shares[1] == pytest.approx(shares[0], abs=0.06)


def test_exits_that_nothing_left_have_rate_nothing() -> None:
    found = random_at_rate(Setting("gate"), Evaluation("gate", BLOCKS, 0, ()), AFTER)
    assert (found.policy, found.thresholds) == ("random", (1.0, 1.0, 1.0))
