"""The paper's reduction factor as its code has it, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from random_models import AFTER, Tiny, tiny

from offramp.engine.reply import Stats
from offramp.engine.request import Request
from offramp.evaluation.cost import part_costs
from offramp.evaluation.reduction import corrected, published, published_share, true_shares
from offramp.models.families import family_for
from offramp.models.shapes import shapes_only
from offramp.propagation.base import Work

BLOCKS = 8
MISTRAL: dict[str, Any] = dict(
    model_type="mistral",
    vocab_size=64,
    hidden_size=4096,
    num_hidden_layers=2,
    num_attention_heads=32,
    num_key_value_heads=8,
    intermediate_size=14336,
)
CODESTRAL: dict[str, Any] = dict(
    model_type="mamba2",
    vocab_size=64,
    hidden_size=4096,
    num_hidden_layers=2,
    num_heads=128,
    head_dim=64,
    state_size=128,
    n_groups=8,
)


def test_the_published_formula_by_hand() -> None:
    """Five tokens of eight blocks; the first is the prompt's. Two left after four blocks, one after six."""
    depths = [8, 4, 4, 6, 8]
    assert published(depths, BLOCKS, 0.0) == (32.0, 32 - (4 + 4 + 2))
    assert published(depths, BLOCKS, 0.5) == (32.0, 32 - 10 + 5)
    assert published([8], BLOCKS, 0.0) == published([], BLOCKS, 0.0) == (0.0, 0.0)


@pytest.mark.parametrize(("raw", "claimed", "true"), [(MISTRAL, 4 / 24, 0.0385), (CODESTRAL, 9 / 26, 0.3878)])
def test_what_a_projected_block_costs(raw: dict[str, Any], claimed: float, true: float) -> None:
    """In Mistral the published code takes four times too much; in Codestral too little: it leaves out C."""
    family = family_for(raw["model_type"])
    with shapes_only():
        model = family.build(family.config_from(raw))
    assert published_share(model, "project") == claimed
    assert published_share(model, "skip") == published_share(model, "copy_token") == 0.0
    assert published_share(model, "verify") is None
    assert true_shares(part_costs(model))["blocks.0"]["advance"] == pytest.approx(true, abs=0.0005)


def run(one: Tiny, propagation: str) -> tuple[tuple[float, float], list[int], dict[str, dict[str, float]]]:
    """The corrected factor of a reply, its depths, and the shares."""
    said = one.engine().generate(
        Request((3, 4, 5), propagation, thresholds=(0.4,), max_tokens=30, ignore_eos=True)
    )
    shares = true_shares(part_costs(one.model, one.exits))
    depths = [event.depth for event in said.events]
    assert set(depths) >= {AFTER[0], BLOCKS}, "some must leave and some stay"
    return corrected(said.stats, len(said.tokens), BLOCKS, shares), depths, shares


@pytest.mark.parametrize("backbone", ["llama", "mamba2"])
@pytest.mark.parametrize(("bridge", "last"), [("none", 0), ("last_block", 1)])
def test_corrected_is_the_formula_with_the_blocks_truly_skipped(
    backbone: str, bridge: str, last: int
) -> None:
    """A token that leaves skips one block less where its bridge runs the last, and pays `advance` for the others."""
    one = tiny(backbone, bridge=bridge)
    (total, spent), depths, shares = run(one, "project")
    share = shares["blocks.7"]["advance"]
    skipped = sum(BLOCKS - depth - last for depth in depths[1:] if depth < BLOCKS)
    assert 0 < share < 1
    assert (total, spent) == (8 * 29, pytest.approx(8 * 29 - skipped + share * skipped))


@pytest.mark.parametrize(("bridge", "fair"), [("none", True), ("last_block", False)])
def test_the_published_factor_flatters_where_the_last_block_runs(bridge: str, fair: bool) -> None:
    (total, spent), depths, _ = run(tiny("llama", bridge=bridge), "skip")
    claimed_total, claimed = published(depths, BLOCKS, 0.0)
    assert total == claimed_total
    assert spent == claimed if fair else spent > claimed


def test_what_waits_is_not_saved() -> None:
    """Under `defer` every block is computed in the end, but for what still waits at a reply's end."""
    (total, spent), depths, _ = run(tiny("llama"), "defer")
    waiting = next(i for i, depth in enumerate(reversed(depths)) if depth == BLOCKS)
    assert total - (BLOCKS - AFTER[0]) * waiting <= spent <= total


def test_gates_are_no_blocks() -> None:
    work = {"exits.0.gate": Work(Counter(run=5), Counter(run=5))}
    assert corrected(Stats(block_tokens=3, work=work), 2, BLOCKS, {}) == (8.0, 3.0)
