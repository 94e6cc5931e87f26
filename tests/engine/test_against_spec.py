"""The engine in float64 says what the specification says: tokens, exits, log-probabilities, ends, frontiers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from against_spec import spec_model, spec_request
from random_models import AFTER, BACKBONES, KIN, Tiny, tiny
from spec import Model as SpecModel
from spec import Row, finish_at_first_exit
from test_invariants import GATES, PROPAGATIONS, requests

from offramp.engine.request import Request


def compare(setup: Tiny, oracle: SpecModel, propagations: Iterable[str], seed: int, count: int) -> None:
    engine, depths = setup.engine(), [*AFTER, 8]
    for propagation in propagations:
        for request in requests(100 + seed, count, propagation):
            row = finish_at_first_exit(Row(oracle, spec_request(request, len(AFTER))))
            reply = engine.generate(request)
            assert [(e.token, e.depth) for e in reply.events] == [
                (e.token, depths[e.exit] if propagation != "verify" else ours.depth)
                for e, ours in zip(row.emitted, reply.events, strict=True)
            ], f"seed {seed}: {request}"
            assert reply.finish == row.ended
            ours = torch.tensor([event.logprob for event in reply.events], dtype=torch.float64)
            theirs = torch.tensor([emitted.logprob for emitted in row.emitted], dtype=torch.float64)
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


def _compare(
    backbone: str,
    gate: str,
    bridge: str,
    seed: int,
    count: int,
    propagations: Iterable[str] = PROPAGATIONS,
) -> None:
    setup = tiny(backbone, gate, bridge, seed, torch.float64)
    compare(setup, spec_model(setup), propagations, seed, count)


BRIDGES = ("none", "last_block")
LEARNT = [
    ("llama", "mlp", "lens"),
    ("llama", "transformer", "block-gate"),
    ("mamba2", "mlp", "block-attention"),
    ("mamba2", "mamba", "block-gate"),
    ("mamba2-groups", "linear", "block"),
]
"""Bridges with weights, those whose trunk is the gate's among them."""
CASES = [(b, g, br) for b in BACKBONES for g in GATES for br in BRIDGES]
CASES += [("mamba", "mamba", "last_block"), ("falcon_mamba", "linear", "none"), *LEARNT]


@pytest.mark.parametrize(("backbone", "gate", "bridge"), CASES)
def test_engine_equals_specification(backbone: str, gate: str, bridge: str) -> None:
    """Each case tries one of the two copies; all are in the slow grid."""
    number = CASES.index((backbone, gate, bridge))
    left_out = ("copy_block", "copy_token")[number % 2]
    tried = [name for name in PROPAGATIONS if name != left_out]
    _compare(backbone, gate, bridge, seed=number, count=1, propagations=tried)


AVERAGE = """
import torch
from offramp.policies.base import ExitPolicy

class Average(ExitPolicy):
    def init_state(self):
        return (0.0, 0.0)

    def __call__(self, signal, memory):
        average, calls = 0.5 * memory[0][0] + 0.5 * float(signal.gate_R[0]), memory[0][1] + 1
        return torch.tensor([average + 0.1 * (calls % 2) > self.thresholds[signal.exit]]), [(average, calls)]
"""


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("backbone", ["llama", "mamba2"])
def test_a_policy_with_memory_rolls_back(
    backbone: str, propagation: str, add_file: Callable[[str, str, str], None]
) -> None:
    """Its memory also counts calls, so one call too many or a memory not taken back changes who leaves."""
    add_file("offramp.policies", "average", AVERAGE)
    rejected = 0
    for seed in range(3):
        setup = tiny(backbone, "mamba", "none", 200 + seed, torch.float64)
        request = Request((3, 1, 4), propagation, "average", (0.52,), max_tokens=50, ignore_eos=True)
        row = finish_at_first_exit(Row(spec_model(setup), spec_request(request, len(AFTER))))
        reply = setup.engine().generate(request)
        assert reply.tokens == tuple(emitted.token for emitted in row.emitted)
        left = reply.stats.drafts or sum(event.depth < 8 for event in reply.events)
        assert left == row.stats.left > 0
        rejected += row.stats.rejected
    assert propagation != "verify" or rejected > 0


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "gate", "bridge"), LEARNT)
@pytest.mark.parametrize("seed", range(10))
def test_engine_equals_specification_with_any_bridge(
    backbone: str, gate: str, bridge: str, seed: int
) -> None:
    _compare(backbone, gate, bridge, seed=2000 + seed, count=4)


@pytest.mark.slow
@pytest.mark.parametrize("bridge", BRIDGES)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("backbone", BACKBONES | KIN)
@pytest.mark.parametrize("seed", range(4))
def test_engine_equals_specification_everywhere(backbone: str, gate: str, bridge: str, seed: int) -> None:
    _compare(backbone, gate, bridge, seed=1000 + seed, count=4)
