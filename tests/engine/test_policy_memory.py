"""Policies in the engine: what they remember rolls back, and neither schedule nor neighbours change it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from against_spec import spec_model, spec_request
from random_models import AFTER, tiny
from schedules import RandomTurns, serve
from spec import Row, finish_at_first_exit
from torch import Tensor

from offramp import registry
from offramp.engine.request import Request
from offramp.policies.base import ExitPolicy, Memory, Signal

PROPAGATIONS = registry.names("offramp.propagation")
BAR = 0.4
"""Passed often and missed often by the policies that remember."""
THRESHOLDS = {
    "margin": 0.1,
    "entropy": 0.2,
    "saturation": 0.2,
    "calm": 0.1,
    "confidence": 0.15,
    "patience": BAR,
    "budget": BAR,
}


def threshold(name: str, propagation: str) -> float:
    """Drafts leave the first exit alone, where patience cannot have counted beyond one of three."""
    return 0.3 if (name, propagation) == ("patience", "verify") else THRESHOLDS[name]


def made(name: str) -> ExitPolicy:
    return registry.find("offramp.policies", name, ExitPolicy)((BAR,) * len(AFTER))


REMEMBERING = [name for name in registry.names("offramp.policies") if made(name).init_state()]


class NeverSawTheRejected(ExitPolicy):
    """The policy itself; at every call its memory must be that of a run that was asked about what stands alone.

    Asked about an index again, everything from there on was rejected and is struck off. A token meets the exits one
    after another, from the first: no exit is asked about a token that merely waits there.
    """

    def __init__(self, policy: ExitPolicy) -> None:
        super().__init__(policy.thresholds)
        self.policy, self.stands, self.struck = policy, list[Signal](), 0
        self.needs_logits = policy.needs_logits  # type: ignore[misc]  # the engine reads it of the instance

    def __call__(self, signal: Signal, memory: Sequence[Memory]) -> tuple[Tensor, list[Memory]]:
        stands = [s for s in self.stands if (s.index[0], s.exit) < (signal.index[0], signal.exit)]
        self.struck += len(self.stands) - len(stands)
        expected = [self.policy.init_state()]
        for before in stands:
            _, expected = self.policy(before, expected)
        assert list(memory) == expected
        before = stands[-1] if signal.exit else None
        assert before is None or (before.index, before.exit + 1) == (signal.index, signal.exit)
        self.stands = [*stands, signal]
        return self.policy(signal, memory)


@pytest.mark.parametrize("backbone", ["llama", "mamba2"])
@pytest.mark.parametrize("name", REMEMBERING)
@torch.inference_mode()
def test_memory_is_as_if_the_rejected_drafts_had_never_been(name: str, backbone: str) -> None:
    struck = 0
    for seed in range(2):
        engine = tiny(backbone, "linear", "none", 300 + seed).engine()
        bar = threshold(name, "verify")
        engine.add(Request((3, 1, 4), "verify", name, (bar,), max_tokens=24, ignore_eos=True))
        engine._admit()
        [row] = engine._running.values()
        row.policy = watched = NeverSawTheRejected(row.policy)
        while engine.busy:
            engine.step()
        struck += watched.struck
    assert struck > 0, "the sample must hold rejected drafts"


@pytest.mark.parametrize("name", THRESHOLDS)
def test_engine_equals_specification(name: str) -> None:
    """In float64, against the specification's own arithmetic and rollback; a call too many would show."""
    for backbone, bridge, propagation in (("llama", "none", "verify"), ("mamba2", "last_block", "project")):
        setup = tiny(backbone, "mamba", bridge, 400, torch.float64)
        bar = threshold(name, propagation)
        request = Request((3, 1, 4), propagation, name, (bar,), run_max=3, max_tokens=16, ignore_eos=True)
        row = finish_at_first_exit(Row(spec_model(setup), spec_request(request, len(AFTER))))
        reply = setup.engine().generate(request)
        assert reply.tokens == tuple(emitted.token for emitted in row.emitted)
        left = reply.stats.drafts or sum(event.depth < 8 for event in reply.events)
        assert left == row.stats.left > 0


def test_verify_equals_plain() -> None:
    setup = tiny("mamba2", "linear", "none", seed=5)
    engine, plain = setup.engine(), setup.plain()
    for name in THRESHOLDS:
        bar = threshold(name, "verify")
        request = Request((9, 2), "verify", name, (bar,), max_tokens=12, ignore_eos=True)
        reply = engine.generate(request)
        assert reply.tokens == plain.generate(request).tokens and reply.stats.drafts > 0, name


def test_neither_neighbours_nor_the_schedule_matter() -> None:
    """Rows of every propagation take their turns in random order; each says, and leaves, as it does alone. Only where
    the schedule suppresses drafts, those of `verify` leave otherwise."""
    setup = tiny("llama", "mamba", seed=6)
    asked = [
        Request(
            (7, index + 1), propagation, name, (threshold(name, propagation),), max_tokens=12, ignore_eos=True
        )
        for index, propagation in enumerate(PROPAGATIONS)
        for name in REMEMBERING
    ]
    single = setup.engine()
    alone = [[(e.token, e.depth) for e in single.generate(request).events] for request in asked]
    for drafting in ((True,), (True, False)):
        engine = setup.engine(slots=len(asked))
        engine.scheduler = RandomTurns(random.Random(6), drafting)
        said = [[(e.token, e.depth) for e in events] for events in serve(engine, asked)]
        free = [r.propagation != "verify" or all(drafting) for r in asked]
        assert [row for row, same in zip(said, free, strict=True) if same] == [
            row for row, same in zip(alone, free, strict=True) if same
        ]
        assert [[token for token, _ in row] for row in said] == [[token for token, _ in row] for row in alone]


@pytest.mark.parametrize("propagation", ["defer", "project"])
def test_budget_keeps_its_mean_depth(propagation: str) -> None:
    engine = tiny("llama", "mamba", seed=7).engine()
    for share in (0.4, 0.7):
        request = Request((5, 6), propagation, "budget", (share,), run_max=15, max_tokens=90, ignore_eos=True)
        depths = [event.depth for event in engine.generate(request).events[1:]]
        assert sum(depths) / len(depths) / 8 == pytest.approx(share, abs=0.05)
