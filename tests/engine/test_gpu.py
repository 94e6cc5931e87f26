"""The same engine on a CUDA device, in whichever tier its self-test allows there."""

from __future__ import annotations

import pytest
import torch
from random_models import BACKBONES, tiny
from test_invariants import GATES, PROPAGATIONS, requests

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("gate", GATES)
def test_verify_equals_plain_on_the_device(backbone: str, gate: str) -> None:
    """In the tolerance tier a first difference must come from two nearly equal candidates."""
    setup = tiny(backbone, gate, "last_block", seed=9)
    setup.model.cuda()
    setup.exits.cuda()
    for request in requests(5, 6, "verify"):
        drafted, plain = setup.engine().generate(request), setup.plain().generate(request)
        pairs = zip(drafted.events, plain.events, strict=False)
        first = next(((a, b) for a, b in pairs if a.token != b.token), None)
        assert first is None or abs(first[0].logprob - first[1].logprob) < 1e-4


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_every_propagation_runs_on_the_device(propagation: str) -> None:
    setup = tiny("mamba2", "mamba", seed=9)
    setup.model.cuda()
    setup.exits.cuda()
    for request in requests(6, 2, propagation):
        assert setup.engine().generate(request).finish
