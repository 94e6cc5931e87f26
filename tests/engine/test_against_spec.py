"""The engine in float64 says what the specification says: tokens, exits, log-probabilities, ends, frontiers."""

from __future__ import annotations

import pytest
import torch
from against_spec import spec_model, spec_request
from random_models import AFTER, BACKBONES, tiny
from spec import Row, finish
from test_invariants import GATES, PROPAGATIONS, requests


def _compare(backbone: str, gate: str, bridge: str, seed: int, count: int) -> None:
    setup = tiny(backbone, gate, bridge, seed, torch.float64)
    oracle, engine = spec_model(setup), setup.engine()
    depths = [*AFTER, 8]
    for propagation in PROPAGATIONS:
        for request in requests(100 + seed, count, propagation):
            row = finish(Row(oracle, spec_request(request, len(AFTER))))
            reply = engine.generate(request)
            assert [(e.token, e.depth) for e in reply.events] == [
                (e.token, depths[e.exit] if propagation != "verify" else ours.depth)
                for e, ours in zip(row.emitted, reply.events, strict=True)
            ], f"seed {seed}: {request}"
            assert reply.finish == row.ended
            ours = torch.tensor([event.logprob for event in reply.events], dtype=torch.float64)
            theirs = torch.tensor([emitted.logprob for emitted in row.emitted], dtype=torch.float64)
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


CASES = [(b, g, br) for b in BACKBONES for g in GATES for br in ("none", "last_block")]


@pytest.mark.parametrize(("backbone", "gate", "bridge"), CASES)
def test_engine_equals_specification(backbone: str, gate: str, bridge: str) -> None:
    _compare(backbone, gate, bridge, seed=CASES.index((backbone, gate, bridge)), count=1)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "gate", "bridge"), CASES)
@pytest.mark.parametrize("seed", range(4))
def test_engine_equals_specification_everywhere(backbone: str, gate: str, bridge: str, seed: int) -> None:
    _compare(backbone, gate, bridge, seed=1000 + seed, count=4)
