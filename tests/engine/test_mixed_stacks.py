"""Attention and Mamba-2 blocks in one stack: every propagation, against the specification and bit for bit."""

from __future__ import annotations

import pytest
import torch
from mixed_stacks import KINDS, mixed
from test_against_spec import compare
from test_invariants import PROPAGATIONS, requests, said

CASES = [("mixed", "mamba", "none"), ("windowed", "linear", "last_block"), ("late", "transformer", "none")]
GRID = [(s, g, b) for s in KINDS for g in ("linear", "transformer", "mamba") for b in ("none", "last_block")]


@pytest.mark.parametrize(("stack", "gate", "bridge"), CASES)
def test_mixed_stack_equals_specification(stack: str, gate: str, bridge: str) -> None:
    compare(*mixed(stack, gate, bridge, 40, torch.float64), PROPAGATIONS, seed=40, count=1)


@pytest.mark.slow
@pytest.mark.parametrize(("stack", "gate", "bridge"), GRID)
def test_mixed_stack_equals_specification_everywhere(stack: str, gate: str, bridge: str) -> None:
    for seed in (41, 42):
        compare(*mixed(stack, gate, bridge, seed, torch.float64), PROPAGATIONS, seed=seed, count=4)


@pytest.mark.parametrize("stack", KINDS)
def test_verify_equals_plain_on_a_mixed_stack(stack: str) -> None:
    setup, _ = mixed(stack, "mamba", "last_block", 43)
    assert setup.engine().tier.name == "exact"
    for request in requests(43, 3, "verify"):
        assert said(setup.engine().generate(request)) == said(setup.plain().generate(request))
