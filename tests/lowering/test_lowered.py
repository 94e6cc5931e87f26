"""Kernels against PyTorch, module by module of every family: what engines say of given tokens, and why one is not
lowered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest
import torch
from random_models import Tiny, raw_config, tiny
from torch import nn

from offramp import registry
from offramp.engine.request import Request
from offramp.lowering.model import why_not_lowered
from offramp.models.families import all_families, family_for
from offramp.native.library import find

FAMILIES = sorted(name for family in all_families() for name in family.model_types)
GATES = registry.names("offramp.exits.gates")
BRIDGES = registry.names("offramp.exits.bridges")
PROPAGATIONS = registry.names("offramp.propagation")
TOKENS = tuple(7 * i % 31 + 1 for i in range(40))

pytestmark = pytest.mark.skipif(find() is None, reason="the kernels were not built here")


def scores(setup: Tiny, propagation: str, policy: str = "always") -> list[float]:
    """Log-probabilities of given tokens; leaving or not does not depend on rounding."""
    request = Request(TOKENS[:9], propagation, policy, run_max=3, forced=TOKENS[9:])
    return [event.logprob for event in setup.engine(slots=2).generate(request).events]


@contextmanager
def without_kernels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFRAMP_KERNELS", "none")
        yield


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_lowered_and_says_what_pytorch_says(family: str) -> None:
    setup = tiny(family, "mamba", "none", seed=3)
    assert why_not_lowered(setup.model) == ""
    lowered = scores(setup, "verify", "never")
    with without_kernels():
        assert lowered == pytest.approx(scores(setup, "verify", "never"), rel=2e-5, abs=2e-5)


CASES = [
    (GATES[i % len(GATES)], BRIDGES[i // len(GATES) % len(BRIDGES)], PROPAGATIONS[i % len(PROPAGATIONS)])
    for i in range(len(GATES) * len(BRIDGES))
]


@pytest.mark.parametrize(("gate", "bridge", "propagation"), CASES)
@pytest.mark.parametrize("family", ["llama", "mamba", "mamba2"])
def test_every_gate_bridge_and_propagation(family: str, gate: str, bridge: str, propagation: str) -> None:
    """Every token leaves at the first exit as often as it may, so bridges and what deeper blocks receive are heard."""
    setup = tiny(family, gate, bridge, seed=5)
    lowered = scores(setup, propagation)
    with without_kernels():
        assert lowered == pytest.approx(scores(setup, propagation), rel=5e-5, abs=5e-5)


@pytest.mark.parametrize("family", ["llama", "mistral", "mamba", "falcon_mamba", "mamba2", "bamba"])
@pytest.mark.parametrize("propagation", ["verify", "project"])
def test_bits_do_not_depend_on_threads(family: str, propagation: str) -> None:
    setup, library = tiny(family, "mamba", "none", seed=7), find()
    assert library is not None
    before, said = library.threads, []
    try:
        for threads in (1, 2, 4):
            library.threads = threads
            said.append(scores(setup, propagation, "gate"))
    finally:
        library.threads = before
    assert said[0] == said[1] == said[2]


@pytest.mark.parametrize("family", ["llama", "mamba", "mamba2"])
def test_bfloat16(family: str) -> None:
    """Products read both sides in bfloat16; between them kernels round less than PyTorch does."""
    setup = tiny(family, "linear", "none", seed=3)
    exact = scores(setup, "verify", "never")
    half = tiny(family, "linear", "none", seed=3, dtype=torch.bfloat16)
    assert why_not_lowered(half.model) == ""
    lowered = scores(half, "verify", "never")
    with without_kernels():
        by_pytorch = scores(half, "verify", "never")
    error, theirs = (
        sum(abs(a - b) for a, b in zip(x, exact, strict=True)) / len(exact) for x in (lowered, by_pytorch)
    )
    assert 0 < error < max(0.02, 1.5 * theirs)


def test_what_has_no_kernels_says_so() -> None:
    class Twice(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    setup = tiny("llama", "linear", "none", seed=3)
    head = setup.model.head.weight
    setup.model.head.weight = nn.Parameter(head.detach().T.contiguous().T)
    assert why_not_lowered(setup.model) == "a weight whose rows do not lie in one piece has no kernels"
    setup.model.head = Twice(32, 37)
    assert why_not_lowered(setup.model) == "Twice has no kernels"
    assert why_not_lowered(tiny("llama", "linear", "none", seed=3).model.double()) == (
        "there are no kernels for torch.float64 on cpu"
    )
    with without_kernels():
        assert why_not_lowered(tiny("llama", "linear", "none", seed=3).model) == "OFFRAMP_KERNELS is none"


@pytest.mark.parametrize("model_type", ["mamba", "mamba2"])
def test_a_convolution_of_many_taps_has_no_kernels(model_type: str) -> None:
    family = family_for(model_type)
    model = family.build(family.config_from(raw_config(model_type) | {"conv_kernel": 9}))
    assert why_not_lowered(model) == "a convolution of more than 8 taps has no kernels"


def test_the_cases_hold_every_pair() -> None:
    """Every gate meets every bridge, and every propagation is there."""
    assert set(product(GATES, BRIDGES)) == {(gate, bridge) for gate, bridge, _ in CASES}
    assert {propagation for *_, propagation in CASES} == set(PROPAGATIONS)
