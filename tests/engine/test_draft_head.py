"""Drafts chosen among a short list: `verify` says the plain model's text all the same, and reads less of the head."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from batch_traffic import random_request
from random_models import VOCAB, Tiny, tiny
from torch import nn

from offramp.engine.draft_head import PART, draft_head
from offramp.engine.engine import Engine
from offramp.engine.measure import _draft
from offramp.engine.request import Request, Sampling
from offramp.evaluation.cost import Cost, part_costs, run_cost
from offramp.evaluation.leaving import leaving_costs
from offramp.models.quantised import Bits, quantise_weights
from offramp.propagation.base import Work

IDS = (0, 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31)
PROMPT = (3, 1, 4, 1, 5)
DRAFTS = Request(PROMPT, "verify", "always", run_max=3, max_tokens=30, ignore_eos=True)


def listed(backbone: str = "llama", gate: str = "linear", bridge: str = "none", seed: int = 0) -> Tiny:
    setup = tiny(backbone, gate, bridge, seed)
    return replace(setup, exits=setup.exits.drafting_from(IDS))


def unlisted(setup: Tiny) -> Tiny:
    return replace(setup, exits=setup.exits.drafting_from(()))


@contextmanager
def without_kernels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFRAMP_KERNELS", "none")
        yield


def said(engine: Engine, asked: list[Request]) -> list[tuple[tuple[int, ...], list[float], str]]:
    replies = engine.generate_all(asked)
    return [(reply.tokens, [event.logprob for event in reply.events], reply.finish) for reply in replies]


@pytest.mark.parametrize(
    ("backbone", "gate", "bridge"),
    [("llama", "mamba", "none"), ("mamba2", "linear", "last_block"), ("mamba", "linear", "lens")],
)
def test_verify_equals_plain(backbone: str, gate: str, bridge: str) -> None:
    """Greedy and sampled, penalties and filters among them, with log-probabilities; by kernels and by PyTorch."""
    setup, rng = listed(backbone, gate, bridge, seed=21), random.Random(7)
    asked = [random_request(rng, "verify") for _ in range(5)]
    asked += [replace(DRAFTS, sampling=Sampling(temperature=0.8, seed=i, top_k=20)) for i in range(2)]
    assert said(setup.engine(slots=4), asked) == said(setup.plain(slots=4), asked)
    with without_kernels():
        assert said(setup.engine(), asked[-1:]) == said(setup.plain(), asked[-1:])


def test_a_draft_is_the_full_head_s_best_of_the_listed() -> None:
    """The first draft after the prompt, greedily and with noise, beside what the whole head would have drafted."""
    for seed in range(12):
        sampling = Sampling(temperature=0.9 if seed % 2 else 0.0, seed=seed)
        request = replace(DRAFTS, prompt=(seed + 1, 4, 9), sampling=sampling)
        short, whole = (_first_draft(setup, request) for setup in (listed(), unlisted(listed())))
        assert short in IDS and (short == whole or whole not in IDS)


def _first_draft(setup: Tiny, request: Request) -> int:
    engine = setup.engine()
    engine.add(request)
    while not any(row.drafts for row in engine._running.values()):
        engine.step()
    [row] = engine._running.values()
    return row.drafts[0].token


def test_work_is_counted_where_it_is_done() -> None:
    """Every draft reads the short head, every judged position the whole one; bytes by hand."""
    setup = listed()
    stats = setup.engine().generate(DRAFTS).stats
    work, costs = stats.work[PART], part_costs(setup.model, setup.exits)
    assert work.passes["run"] == work.tokens["run"] == stats.drafts > 0
    whole = unlisted(setup).engine().generate(DRAFTS).stats
    assert PART not in whole.work and whole.head_rows > stats.head_rows
    width = setup.model.config.hidden_size
    rows = costs["head"]["run"].weight_bytes - costs[PART]["run"].weight_bytes
    assert rows == 4 * width * (VOCAB - len(IDS)) and costs[PART]["run"].flops == 2 * width * len(IDS)
    as_full = replace(stats, head_passes=stats.head_passes + stats.drafts)
    as_full.work = {name: done for name, done in stats.work.items() if name != PART}
    assert run_cost(as_full, costs).weight_bytes - run_cost(stats, costs).weight_bytes == stats.drafts * rows


@pytest.mark.parametrize("propagation", ["defer", "project", "skip", "copy_token"])
def test_what_is_emitted_is_chosen_among_all(propagation: str) -> None:
    setup, request = listed("mamba2", seed=4), replace(DRAFTS, propagation=propagation)
    short, whole = (one.engine().generate(request) for one in (setup, unlisted(setup)))
    assert short.tokens == whole.tokens and short.stats == whole.stats
    assert PART not in short.stats.work and any(event.depth < 8 for event in short.events)
    assert not set(short.tokens) <= set(IDS)


def test_a_policy_that_reads_the_vocabulary_reads_all_of_it() -> None:
    """Its thresholds mean what they mean without a list, and it has paid for the whole head."""
    setup, request = listed(), replace(DRAFTS, policy="confidence", thresholds=(0.1,))
    short, whole = (one.engine().generate(request) for one in (setup, unlisted(setup)))
    assert short.stats.drafts == whole.stats.drafts > 0 and short.stats.head_rows == whole.stats.head_rows
    assert PART not in short.stats.work


def test_rows_of_both_kinds_share_a_round() -> None:
    """Judged and emitted, in one batch: each says what it says alone."""
    setup = listed("llama", seed=9)
    asked = [
        replace(DRAFTS, propagation=name, max_tokens=20) for name in ("verify", "defer", "verify", "skip")
    ]
    alone = [one for request in asked for one in said(setup.engine(), [request])]
    assert said(setup.engine(slots=4), asked) == alone


def test_what_forces_tokens_forces_drafts() -> None:
    setup, text = listed(), (6, 8, 9, 10, 12, 14)  # none is listed
    request = Request(PROMPT, "verify", "always", run_max=3, forced=text)
    reply = setup.engine().generate(request)
    assert reply.tokens == text
    assert [event.logprob for event in reply.events] == [
        event.logprob for event in setup.plain().generate(request).events
    ]


@pytest.mark.parametrize("bits", Bits)
def test_of_a_quantised_head_rows_are_copied_as_they_are(bits: Bits) -> None:
    setup = listed()
    quantise_weights(setup.model, bits)
    engine = setup.engine()
    reply, costs = engine.generate(DRAFTS), part_costs(setup.model, setup.exits)
    assert reply.tokens == setup.plain().generate(DRAFTS).tokens and reply.stats.drafts > 0
    assert reply.stats.work[PART].passes["run"] == reply.stats.drafts
    row = setup.model.head.weight.quantised.bytes / VOCAB
    saved = costs["head"]["run"].weight_bytes - costs[PART]["run"].weight_bytes
    assert saved == row * (VOCAB - len(IDS)) < 4 * 32 * (VOCAB - len(IDS))


def test_a_head_without_rows_is_read_whole() -> None:
    class Twice(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    setup = listed()
    twice = Twice(32, VOCAB, bias=False)
    twice.weight = setup.model.head.weight
    setup.model.head = twice
    engine = setup.engine()
    assert draft_head(setup.model, tuple(setup.exits), engine.frontier.runner) is None
    reply = engine.generate(DRAFTS)
    assert PART not in reply.stats.work and PART not in part_costs(setup.model, setup.exits)
    assert reply.tokens == setup.plain().generate(DRAFTS).tokens


@torch.inference_mode()
def test_the_controller_measures_what_drafts_read() -> None:
    frontier = listed().engine(slots=3).frontier
    _draft(frontier, range(2))
    for slot, drafts in enumerate((1, 1, 0)):
        assert frontier.stats[slot].head_rows == 0
        assert frontier.stats[slot].work.get(PART, Work()).passes["run"] == drafts


def test_a_token_that_leaves_costs_the_short_head() -> None:
    """As `offramp inspect` shows it: under `verify` alone."""
    setup = listed("mamba2")
    costs = part_costs(setup.model, setup.exits)
    short, whole = (leaving_costs(one.model, one.exits).after[2] for one in (setup, unlisted(setup)))
    for propagation, cost in whole.items():
        saved = costs["head"]["run"] - costs[PART]["run"] if propagation == "verify" else Cost()
        assert cost is not None and short[propagation] == cost - saved
