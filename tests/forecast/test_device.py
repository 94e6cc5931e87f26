"""A described device: step times and gains of 7B shapes, as a simulation of an H100 had them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from clocks import stated

from offramp.errors import UsageError
from offramp.exits.base import ExitConfig
from offramp.forecast.device import Described, Device
from offramp.forecast.outlook import outlook
from offramp.forecast.parts import parts_of
from offramp.forecast.setting import NO_GATE, Setting, Skill
from offramp.models.base import Model
from offramp.models.families import family_for
from offramp.models.shapes import shapes_only

H100 = Device(3.35e12, 990e12)
MISTRAL: dict[str, Any] = dict(
    model_type="mistral",
    hidden_size=4096,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    intermediate_size=14336,
    vocab_size=32768,
)


def shapes() -> Model:
    family = family_for("mistral")
    with shapes_only():
        return family.build(family.config_from(MISTRAL)).to(torch.bfloat16)


@pytest.fixture(scope="module")
def clock() -> Described:
    gate = ExitConfig("linear", "none", (1,), 4096, 1e-5)
    return Described(H100, parts_of(shapes(), gate, (8, 16), context=512))


def test_parts_are_the_weights(clock: Described) -> None:
    """All but the embedding, of which a pass reads one row."""
    model, reads = shapes(), clock.parts.reads(8, "none")
    whole = sum(weight.numel() * 2 for weight in model.parameters()) - 32768 * 4096 * 2
    assert reads.full == whole and reads.below == whole_blocks(model, 0, 8)
    assert reads.w == 0.25 and clock.parts.reads(8, "last_block").borrowed == whole_blocks(model, 31, 32)


def whole_blocks(model: Model, start: int, stop: int) -> int:
    return sum(weight.numel() * 2 for block in model.blocks[start:stop] for weight in block.parameters())


def test_a_short_list_makes_drafts_cheaper_and_nothing_else(clock: Described) -> None:
    """An eighth of the head's rows; what is emitted unjudged is chosen among all tokens."""
    gate = ExitConfig("linear", "none", (1,), 4096, 1e-5, draft_vocabulary=4096)
    short = Described(H100, parts_of(shapes(), gate, (8, 16), context=512))
    assert short.parts.drafts and short.parts.drafts.weight_bytes == (4096 + 1) * 4096 * 2  # and the norm
    assert (
        short.parts.head == clock.parts.head
        and short.parts.reads(8, "none").full == clock.parts.reads(8, "none").full
    )
    assert short.parts.reads(8, "none").drafts == short.parts.drafts.weight_bytes
    for propagation in ("verify", "defer"):
        mine, theirs = (each.timings(Setting(8, propagation=propagation), 4) for each in (short, clock))
        assert mine.shallow == theirs.shallow and mine.deep == theirs.deep
        share = mine.draft.seconds(4) / theirs.draft.seconds(4)
        assert share == pytest.approx(1 / 8, rel=0.01) if propagation == "verify" else share == 1


@pytest.mark.parametrize(("rows", "milliseconds"), [(1, 5.6), (32, 6.3), (128, 8.7)])
def test_step_times(clock: Described, rows: int, milliseconds: float) -> None:
    """7B, 512 tokens into a sequence: scale.md section 5."""
    assert 1000 * clock.plain(rows) == pytest.approx(milliseconds, rel=0.05)


@pytest.mark.parametrize("rows", [4, 16, 32])
def test_gains_of_trained_exits(clock: Described, rows: int) -> None:
    """Drafts at a quarter, agreement .78: simulated 1.53 to 1.58."""
    item = outlook(clock, stated(8, 0.78), "verify", NO_GATE, (rows,))
    assert item and item.best.expected == pytest.approx(1.56, abs=0.06)


def test_exits_in_the_second_half_gain_less(clock: Described) -> None:
    low, high = (outlook(clock, stated(at, 0.78), "verify", NO_GATE, (16,)) for at in (8, 16))
    assert low and high and high.best.expected < low.best.expected


def test_a_processor_waits_for_arithmetic(clock: Described) -> None:
    """From 16 rows on at 80 GB/s and 0.25 TF nothing exact gains; what skips does."""
    slow = Described(Device(80e9, 0.25e12, 0.0, 0.0), clock.parts)
    exact, lossy = (
        outlook(slow, stated(8, 0.6), name, Skill(0.7, 0.85), (16,)) for name in ("verify", "skip")
    )
    assert exact and lossy and exact.best.expected < 1.02 < 1.3 < lossy.best.expected


def test_what_propagations_settle_costs(clock: Described) -> None:
    project, skip, defer = (
        clock.timings(Setting(8, propagation=name), 1).draft for name in ("project", "skip", "defer")
    )
    assert project.seconds(1) > skip.seconds(1) == defer.seconds(1)
    block = clock.timings(Setting(8, "last_block"), 1).draft.seconds(1)
    assert block - skip.seconds(1) == pytest.approx(whole_blocks(shapes(), 31, 32) / (0.8 * 3.35e12), rel=0.1)


def test_chunks_are_free_below_the_ridge_only(clock: Described) -> None:
    deep = clock.timings(Setting(8), 1).deep
    assert deep.seconds(8) == pytest.approx(deep.seconds(1))
    assert clock.timings(Setting(8), 128).deep.seconds(1024) > 2 * clock.timings(
        Setting(8), 128
    ).deep.seconds(128)


@pytest.mark.parametrize("wrong", [dict(bandwidth=0.0), dict(flops=-1.0), dict(pass_seconds=2.0)])
def test_no_such_machine(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Device(**{"bandwidth": 1e9, "flops": 1e12, **wrong})
