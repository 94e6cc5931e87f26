"""The published code's faults (paper.md, A3 to A6), one test each: ours has none of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from offramp.data.documents import Documents
from offramp.engine.request import Request
from offramp.evaluation.cost import part_costs
from offramp.exits.base import ExitConfig
from offramp.exits.store import build_exits, load_exits
from offramp.models.base import Model
from offramp.models.families import family_for
from offramp.models.shapes import shapes_only
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits import measure, train_exits
from offramp.training.observe import observe
from offramp.training.recipe import Work, find_recipe
from tests.engine.random_models import AFTER, raw_config, tiny
from tests.training.tiny import WIDTH, counting_documents, tiny_model

BLOCKS = 8
REQUEST = Request(prompt=(3, 4, 5), policy="always", run_max=2, max_tokens=12, ignore_eos=True)


def data() -> Documents:
    return Documents(counting_documents(10, 30), counting_documents(6, 30, seed=1), "counting")


def test_every_exit_keeps_its_own_weights(tmp_path: Path) -> None:
    """Theirs saved exit 0's weights for all exits."""
    model = tiny_model()
    recipe = find_recipe("paper-code", model.config).changed({"steps": 3})
    recipe.train(Work(tmp_path, model, data(), tmp_path / "exits"))
    weights = [item.gate.out.weight for item in load_exits(tmp_path / "exits", model)[0]]
    assert len(weights) == 3  # 1/2, 5/8 and 3/4 of 8 blocks: behind 7/8 there is but the last
    assert not any(torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


@pytest.mark.parametrize("backbone", ["llama", "mamba2"])
def test_no_block_s_state_advances_twice(backbone: str) -> None:
    """Theirs began to settle a token's skipped blocks at the block that the exit sits behind."""
    made = tiny(backbone)
    stats = made.engine().generate(replace(REQUEST, propagation="project")).stats
    read = stats.tokens - 1  # the prompt gives the first token, and the last one is never read
    for i in range(BLOCKS):
        work = stats.work[f"blocks.{i}"].tokens
        assert work["run"] + work["advance"] == read
        assert (work["advance"] > 0) == (i >= AFTER[0])


@pytest.mark.parametrize("bridge", ["none", "last_block"])
def test_only_blocks_that_did_not_run_count_as_skipped(bridge: str) -> None:
    """Theirs counted the last block too, which runs for every token that leaves, and once another."""
    made = tiny("llama", bridge=bridge)
    reply = made.engine().generate(replace(REQUEST, propagation="project"))
    extra = bridge == "last_block"
    ran = sum(BLOCKS if e.depth == BLOCKS else e.depth + extra for e in reply.events[1:])
    assert reply.stats.block_tokens == ran < BLOCKS * len(reply.events[1:])


def test_settling_a_skipped_attention_block_is_priced_by_its_own_matrices() -> None:
    """Theirs took 4/24 of a block, whatever its key-value heads and its MLP; of Mistral-7B's it is 3.8 %."""
    sizes = dict(hidden_size=4096, intermediate_size=14336, num_attention_heads=32, num_key_value_heads=8)
    family = family_for("mistral")
    raw = raw_config("mistral") | sizes | dict(head_dim=128, num_hidden_layers=2)
    with shapes_only():
        mistral = family.build(family.config_from(raw))
    for model in (tiny("llama").model, mistral):
        block = model.blocks[0]
        keys_and_values = bytes_of(block.norm, block.mixer.k_proj, block.mixer.v_proj)
        assert advanced(model) == keys_and_values
    assert keys_and_values / bytes_of(block) == pytest.approx(0.038, abs=0.001)


def test_settling_a_skipped_mamba_block_is_priced_by_the_rows_that_are_multiplied() -> None:
    """Theirs took 9/26 and multiplied all of in_proj; ours leaves z, the gated norm and out_proj out."""
    model = tiny("mamba2").model
    block, width = model.blocks[0], model.config.hidden_size
    z = block.mixer.inner * width * 4
    left_out = z + bytes_of(block.mixer.out_proj, block.mixer.norm) + 4 * block.mixer.heads  # and D
    assert advanced(model) == bytes_of(block) - left_out


def advanced(model: Model) -> int:
    """Bytes of weights that a token which left has a block read."""
    return part_costs(model)["blocks.0"]["advance"].weight_bytes


def bytes_of(*modules: torch.nn.Module) -> int:
    return sum(weight.nbytes for module in modules for weight in module.parameters())


def test_a_label_is_about_the_token_that_is_emitted() -> None:
    """Theirs is about the exit's hidden state, and the token that is emitted has been through the last block."""
    model, rows = tiny_model(seed=3), counting_documents(6, 20, seed=8)
    exits = build_exits(ExitConfig("linear", "last_block", (2, 4), WIDTH, 1e-5, None), BLOCKS)
    ours = observe(model, exits, rows, ExitTrainConfig())
    theirs = observe(model, exits, rows, ExitTrainConfig(label_reads="exit"))
    assert torch.equal(ours.labels_EN, ours.agreed_EN) and not torch.equal(theirs.labels_EN, theirs.agreed_EN)


def test_thresholds_are_not_chosen_by_hand(tmp_path: Path) -> None:
    """Theirs are grids typed in, one for all exits; ours keep a precision on held-out text, each exit its own."""
    model, held_out = tiny_model(), data()
    exits = build_exits(ExitConfig("linear", "none", (2, 4, 6), WIDTH, 1e-5, None), BLOCKS)
    config = ExitTrainConfig(steps=40, tokens_per_step=128, window=30, rate=1e-2, precision=0.6)
    _, info = train_exits(model, exits, held_out, config, tmp_path / "exits")
    assert info is not None and len(set(info.thresholds)) > 1
    seen = observe(model, exits, held_out.held_out, config)
    assert measure(model, exits, held_out.held_out, config)[1] == info.thresholds
    for said, threshold in zip(seen.each(), info.thresholds, strict=True):
        leaves_N = said.gate_N.sigmoid() > threshold
        assert not leaves_N.any() or said.label_N[leaves_N].float().mean() >= 0.6
