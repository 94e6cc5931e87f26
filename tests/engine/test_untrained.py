"""Exits of a checkpoint that has none of its own: no gate decides, and policies that read one are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from random_models import AFTER, CONTEXT, tiny

from offramp import registry
from offramp.engine.engine import Engine
from offramp.engine.load import load
from offramp.engine.request import Request
from offramp.errors import ExitsError, UsageError
from offramp.exits import gates
from offramp.exits.untrained import Abstaining
from offramp.models.checkpoint import save_model
from offramp.policies.base import ExitPolicy

SETUP = tiny("mamba2", "linear", "none", seed=4)
GATELESS = [
    name
    for name in registry.names("offramp.policies")
    if not registry.find("offramp.policies", name, ExitPolicy).needs_gate
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain")
    save_model(SETUP.model, path)
    return path


def request(policy: str, propagation: str = "verify", threshold: float = 0.15) -> Request:
    return Request((3, 1, 4), propagation, policy, (threshold,), max_tokens=10, ignore_eos=True)


def engine(folder: Path, after: tuple[int, ...] | None = AFTER) -> Engine:
    found = load(folder, "untrained", after)
    return Engine(found.model, found.exits, max_len=CONTEXT)


def test_it_leaves_as_trained_exits_do_whose_gates_nobody_asks(folder: Path) -> None:
    untrained, trained = engine(folder), SETUP.engine()
    assert untrained.tier.name == "exact"
    for propagation in ("verify", "project", "skip"):
        mine = untrained.generate(request("confidence", propagation))
        other = trained.generate(request("confidence", propagation))
        assert [(e.token, e.depth) for e in mine.events] == [(e.token, e.depth) for e in other.events]
        assert mine.stats == other.stats
        assert mine.stats.drafts or any(event.depth < 8 for event in mine.events)


@pytest.mark.parametrize("policy", GATELESS)
def test_every_policy_without_a_gate_drafts_the_full_model_s_text(folder: Path, policy: str) -> None:
    plain = SETUP.plain().generate(request("never"))
    assert engine(folder, (2,)).generate(request(policy)).tokens == plain.tokens


@pytest.mark.parametrize("policy", ["gate", "budget"])
def test_a_policy_that_asks_gates_is_refused(folder: Path, policy: str) -> None:
    with pytest.raises(UsageError, match=f"policy {policy} asks.*confidence, entropy") as caught:
        engine(folder).add(request(policy))
    assert all(name in str(caught.value) for name in GATELESS)
    engine(folder).add(request("confidence"))
    SETUP.engine().add(request(policy))


@torch.inference_mode()
def test_a_policy_that_hides_what_it_reads_is_told_zero(folder: Path) -> None:
    """Zero passes no threshold, so even then no token leaves on a number that means nothing."""
    running = engine(folder)
    running.add(request("confidence", "project", 0.0))
    running._admit()
    [row] = running._running.values()
    row.policy = registry.find("offramp.policies", "gate", ExitPolicy)((0.0,) * len(AFTER))
    events = []
    while not (events and events[-1].finish):
        events += running.step()
    assert {event.depth for event in events} == {8}


def test_where_they_sit(folder: Path) -> None:
    exits = load(folder, "untrained").exits
    assert exits is not None and exits.after == (2, 4, 5, 6, 7) and not list(exits.parameters())
    assert load(folder, "untrained", (7,)).exits.after == (7,)  # type: ignore[union-attr]
    for after in ((8,), (2, 9), (0,), (4, 2)):
        with pytest.raises(UsageError, match="ascending order, each once, from 1"):
            load(folder, "untrained", after)
    with pytest.raises(UsageError, match="--exits untrained"):
        load(folder, exits_at=(2,))
    with pytest.raises(ExitsError, match="Did you mean 'untrained'"):
        load(folder, "untraned")


def test_training_cannot_choose_the_abstaining_gate() -> None:
    assert not [name for name in registry.names(gates.__name__) if Abstaining.__module__.endswith(name)]
