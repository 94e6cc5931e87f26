"""Models of 8 and 4 bits in the engine: what always holds (docs/architecture.md, "Exactness") holds for them, and what
fewer bits cost the bundled twins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest
import torch
from random_models import Tiny, tiny

from offramp.engine.engine import Engine
from offramp.engine.load import Checkpoint, dtype_named, load
from offramp.engine.promise import Facts
from offramp.engine.reply import Generation
from offramp.engine.request import Request, Sampling
from offramp.errors import UsageError
from offramp.evaluation.cost import part_costs
from offramp.evaluation.precision import Foreseen, foresee, read_texts
from offramp.lowering.model import why_not_lowered
from offramp.models.quantised import Bits, quantise_weights
from offramp.native.library import find
from offramp.zoo.bundled import folder
from offramp.zoo.prompts import load_prompts
from offramp.zoo.twins import TWINS

FORMATS = [bits.value for bits in Bits]
DEARER = {"int8": 0.002, "int4": 0.015}
"""The most that a format may add to the twins' bits per byte, as a share of them."""
AGREES = {"int8": 0.97, "int4": 0.88}
PROPAGATIONS = ("verify", "defer", "project", "skip", "copy_block", "copy_token")


@cache
def twin(name: str, dtype: str) -> Checkpoint:
    return load(folder(name), dtype=dtype)


def prompts(found: Checkpoint) -> list[tuple[int, ...]]:
    assert found.text is not None
    return [tuple(found.text.encode(prompt.prompt))[-40:] for prompt in load_prompts()[::4]]


def requests(found: Checkpoint, propagation: str) -> list[Request]:
    sampled = Sampling(temperature=0.8, seed=3)
    how = (("gate", Sampling()), ("gate", sampled), ("always", Sampling()))
    return [
        Request(prompt, propagation, policy, (0.6,), run_max=3, sampling=sampling, max_tokens=12)
        for prompt, (policy, sampling) in zip(prompts(found), how, strict=True)
    ]


def said(reply: Generation) -> tuple[tuple[int, ...], list[float]]:
    return reply.tokens, [event.logprob for event in reply.events]


def engine(found: Checkpoint, slots: int = 1, exits: bool = True) -> Engine:
    return Engine(found.model, found.exits if exits else None, slots=slots, max_len=96)


@contextmanager
def without_kernels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFRAMP_KERNELS", "none")
        yield


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", TWINS)
def test_verify_is_the_quantised_model_s_own_text(name: str, dtype: str) -> None:
    """Bit for bit, drafts accepted and rejected, greedy and sampled; alone and in a batch."""
    found = twin(name, dtype)
    assert engine(found).tier.name == "exact"
    asked = requests(found, "verify")
    alone = [engine(found).generate(request) for request in asked]
    plain = [engine(found, exits=False).generate(request) for request in asked]
    assert [said(reply) for reply in alone] == [said(reply) for reply in plain]
    drafts, accepted = (sum(vars(reply.stats)[name] for reply in alone) for name in ("drafts", "accepted"))
    assert drafts > accepted > 0
    together = engine(found, slots=3).generate_all(asked)
    assert [said(reply) for reply in together] == [said(reply) for reply in alone]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", TWINS)
def test_rows_that_leave_do_not_depend_on_their_neighbours(name: str, dtype: str) -> None:
    found = twin(name, dtype)
    asked = [requests(found, propagation)[i % 3] for i, propagation in enumerate(PROPAGATIONS)]
    alone = [said(engine(found).generate(request)) for request in asked]
    assert [said(reply) for reply in engine(found, slots=4).generate_all(asked)] == alone


BACKBONES = ("llama", "mistral", "mamba", "falcon_mamba", "mamba2", "bamba", "gpt2", "gpt_neox", "gemma")


def small(backbone: str, gate: str, bridge: str, bits: Bits) -> Tiny:
    setup = tiny(backbone, gate, bridge, seed=5)
    for module in (setup.model, setup.exits):
        quantise_weights(module, bits)
    return setup


def scores(setup: Tiny, propagation: str) -> list[float]:
    """Log-probabilities of given tokens; leaving or not does not depend on rounding."""
    tokens = tuple(7 * i % 31 + 1 for i in range(30))
    request = Request(tokens[:9], propagation, "always", run_max=3, forced=tokens[9:])
    return [event.logprob for event in setup.engine(slots=2).generate(request).events]


@pytest.mark.skipif(find() is None, reason="the kernels were not built here")
@pytest.mark.parametrize("number, backbone", list(enumerate(BACKBONES)))
def test_kernels_say_what_is_defined(number: int, backbone: str) -> None:
    """Every family, with gates, bridges, propagations and formats in turn."""
    gate = ("linear", "mamba", "mlp", "transformer")[number % 4]
    bridge = ("none", "lens", "block", "last_block")[number // 2 % 4]
    setup = small(backbone, gate, bridge, list(Bits)[number % 2])
    assert why_not_lowered(setup.model) == ""
    propagation = PROPAGATIONS[number % len(PROPAGATIONS)]
    lowered = scores(setup, propagation)
    with without_kernels():
        assert lowered == pytest.approx(scores(setup, propagation), rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("backbone", ["llama", "mamba", "mamba2"])
def test_without_kernels_verify_is_plain_as_well(backbone: str) -> None:
    with without_kernels():
        setup = small(backbone, "mamba", "none", Bits.INT8)
        request = Request((3, 4, 5), "verify", "always", run_max=3, max_tokens=20, ignore_eos=True)
        assert setup.engine().tier.name == "exact"
        assert said(setup.engine().generate(request)) == said(setup.plain().generate(request))


@cache
def foreseen(name: str, dtype: str) -> tuple[Foreseen, float]:
    found = twin(name, dtype)
    assert found.text is not None
    read = read_texts((prompt.prompt for prompt in load_prompts()), found.text, 512)
    made = foresee(found.model, read)
    return made, made.per_byte(read)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", TWINS)
def test_what_it_costs_the_twins(name: str, dtype: str) -> None:
    (whole, before), (made, after) = foreseen(name, "f32"), foreseen(name, dtype)
    assert abs(after / before - 1) < DEARER[dtype]
    assert AGREES[dtype] < made.agreement(whole) < 1


@pytest.mark.parametrize("name", TWINS)
def test_what_it_saves_the_twins(name: str) -> None:
    """Weights, exits' too, as they lie in memory and as tokens read them."""
    sizes, reads = [], []
    for dtype in ("f32", "int8", "int4"):
        found = twin(name, dtype)
        assert found.exits is not None
        modules = (found.model, found.exits)
        sizes.append(sum(weight.nbytes for module in modules for weight in module.parameters()))
        costs = part_costs(found.model, found.exits)
        reads.append([costs[part]["run"].weight_bytes for part in ("blocks.0", "head", "exits.0.gate")])
    whole, eight, four = sizes
    assert four < eight < whole / 3
    assert all(b < a / 3 for a, b in zip(reads[0], reads[1], strict=True))
    assert reads[2][0] < 0.6 * reads[1][0]


def test_a_certificate_is_for_one_format() -> None:
    whole, eight, four = (twin("tiny-mamba2", dtype) for dtype in ("f32", "int8", "int4"))
    facts = [Facts.of(found.model, found.exits or ()) for found in (whole, eight, four)]
    assert [each.dtype for each in facts] == ["float32", "int8", "int4"]
    assert len({each.model for each in facts}) == 3


def test_what_cannot_be_loaded_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="int8"):
        dtype_named("int3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UsageError, match="int8 runs on the CPU only"):
        load(folder("tiny-mamba2"), dtype="int8", device="cuda")
