"""LayerSkip: layer dropout, a loss at every exit, all weights or low-rank changes, a checkpoint in the end."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from offramp.convert.lora import merge, read_adapter
from offramp.convert.source import from_folder
from offramp.convert.write import write_folder
from offramp.data.documents import Documents
from offramp.engine.engine import Engine
from offramp.engine.load import load
from offramp.engine.request import Request
from offramp.errors import CheckpointError, UsageError
from offramp.models.base import Model
from offramp.models.checkpoint import load_model, save_model
from offramp.training.distributed import Workers
from offramp.training.joint.config import JointConfig
from offramp.training.joint.dropout import draw_kept, hidden_states, skip_rates
from offramp.training.joint.estimate import rows
from offramp.training.joint.exit_loss import exit_weights, read_after
from offramp.training.joint.job import JointJob
from offramp.training.joint.lora import TARGETS, add_lora, merge_lora, targets_in
from offramp.training.joint.train import measure_depths, train_joint
from offramp.training.loop import Limits
from offramp.training.progress import Progress
from offramp.training.recipe import Work, find_recipe
from tests.engine.random_models import tiny
from tests.training.tiny import counting_documents, tiny_model

CONFIG = JointConfig(steps=12, tokens_per_step=128, window=24, warmup_steps=2, rate=3e-3, rotation=2)
LORA = replace(CONFIG, lora_rank=2, rate=1e-2)
FAMILIES = ["llama", "mamba", "mamba2", "bamba", "gpt2"]


@pytest.fixture
def data() -> Documents:
    documents = counting_documents(40, 30, seed=3)
    return Documents(documents[:32], documents[32:], "counting")


def checkpoint(folder: Path, family: str = "llama", **options: Any) -> tuple[Path, Model]:
    model = tiny(family, **options).model
    save_model(model, folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder, load_model(folder)


def test_dropout_grows_with_depth_from_none() -> None:
    rates_L = skip_rates(9, replace(CONFIG, dropout=0.3), step=0)
    assert rates_L[0] == 0 and rates_L[-1] == pytest.approx(0.3)
    assert (rates_L.diff() > 0).all() and rates_L[4] == pytest.approx(0.3 * (2**0.5 - 1))
    growing = replace(CONFIG, dropout=0.3, grow_dropout=True)
    assert not skip_rates(9, growing, 0).any()
    assert torch.allclose(skip_rates(9, growing, growing.steps - 1), rates_L)


def test_rows_skip_as_often_as_they_should() -> None:
    config = replace(CONFIG, dropout=0.4)
    skipped_L = torch.stack(
        [1 - draw_kept(4, 64, config, step).double().mean(1) for step in range(100)]
    ).mean(0)
    assert torch.allclose(skipped_L, skip_rates(4, config, 0), atol=0.02)
    assert torch.equal(draw_kept(4, 8, config, 3), draw_kept(4, 8, config, 3))
    assert not torch.equal(draw_kept(4, 64, config, 3), draw_kept(4, 64, config, 4))


@pytest.mark.parametrize("family", ["llama", "bamba"])
def test_a_row_that_skips_a_block_goes_on_as_it_was(family: str) -> None:
    model, tokens_RT = tiny(family).model, torch.arange(18).view(3, 6)
    kept_LR = torch.rand(8, 3, generator=torch.Generator().manual_seed(1)) > 0.5
    got = hidden_states(model, tokens_RT, kept_LR)
    for r in range(3):
        x_1TD = model.embed(tokens_RT[r : r + 1])
        for i, block in enumerate(model.blocks):
            x_1TD = block(x_1TD) if kept_LR[i, r] else x_1TD
            assert torch.allclose(got[i + 1][r], x_1TD[0], atol=1e-5)
    whole = hidden_states(model, tokens_RT, torch.ones(8, 3, dtype=torch.bool))
    for ours, theirs in zip(whole, model.hidden_states(tokens_RT), strict=True):
        assert torch.equal(ours, theirs)


@given(blocks=st.integers(1, 40), rotation=st.integers(1, 9), scale=st.floats(0, 2))
def test_every_exit_has_its_turn(blocks: int, rotation: int, scale: float) -> None:
    seen = [read_after(blocks, rotation, step) for step in range(rotation)]
    assert sorted(n for after in seen for n in after if n < blocks) == list(range(1, blocks))
    for after in seen:
        weights = exit_weights(after, blocks, scale)
        assert list(weights) == after and sum(weights.values()) == pytest.approx(1)
        assert sorted(weights.values()) == list(weights.values()), "deeper ones count for more"


def test_the_papers_weights() -> None:
    """e(l) = scale * sum(0..l), and the last one L - 1 + scale * sum(0..L-2), for L = 4."""
    raw = [0.0, 0.2, 0.6, 3 + 0.2 * 3]
    expected = {n: value / sum(raw) for n, value in enumerate(raw, 1)}
    assert exit_weights([1, 2, 3, 4], 4, 0.2) == pytest.approx(expected)


def test_two_workers_make_the_step_of_one(data: Documents) -> None:
    """Their parts of the losses and gradients add up, also where the batch cannot be halved."""
    whole = JointJob(tiny_model().requires_grad_(True), data, replace(CONFIG, dropout=0.5), "")
    parts = [
        JointJob(tiny_model().requires_grad_(True), data, whole.config, "", Workers(rank, 2))
        for rank in (0, 1)
    ]
    batch = counting_documents(3, 20)
    losses, *shares = [job._losses(5, batch) for job in (whole, *parts)]
    assert losses["loss"] == pytest.approx(float(shares[0]["loss"] + shares[1]["loss"]), rel=1e-5)
    for one, *two in zip(*(job.learning.parameters() for job in (whole, *parts)), strict=True):
        summed = sum(part.grad for part in two if part.grad is not None)
        assert one.grad is None or torch.allclose(one.grad, summed, atol=1e-6)
    assert whole.learning.get_parameter("blocks/0/mlp/weight").grad is not None


def test_exits_become_better(data: Documents, tmp_path: Path) -> None:
    """At every depth, on documents that were not seen."""
    folder, model = checkpoint(tmp_path / "model")
    before = measure_depths(model, data.held_out, CONFIG)
    config = replace(CONFIG, steps=60)
    outcome, after = train_joint(folder, model, data, config, tmp_path / "out", recipe={})
    assert outcome.finished and after is not None and list(after) == [f"after{n}" for n in (2, 4, 5, 6, 7, 8)]
    for at, found in after.items():
        assert found["nats a token"] < 0.8 * before[at]["nats a token"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("family", "config"),
    [("llama", CONFIG), ("gpt2", LORA), ("mamba", LORA), ("bamba", CONFIG), ("bamba", LORA)],
)
def test_the_result_is_a_checkpoint_that_can_be_left(
    data: Documents, tmp_path: Path, family: str, config: JointConfig
) -> None:
    folder, model = checkpoint(tmp_path / "model", family)
    before = {name: value.clone() for name, value in model.named_parameters()}
    train_joint(folder, model, data, replace(config, steps=3), tmp_path / "out", recipe={"name": "layerskip"})
    again = load_model(tmp_path / "out")
    moved = {name for name, value in again.named_parameters() if not torch.equal(value, before[name])}
    for name, value in model.named_parameters():
        assert torch.equal(value, again.get_parameter(name)), name
    endings = {name.removesuffix(".weight").rpartition(".")[2] for name in moved}
    assert endings <= set(TARGETS) if config.lora_rank else "embed" in endings
    assert all(any(name.startswith(f"blocks.{i}.") for name in moved) for i in range(8))
    said = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert said == {"name": "layerskip", "data_sha256": data.sha256()}
    assert (tmp_path / "out" / "tokenizer.json").is_file() and not (tmp_path / ".out.run").exists()


def test_what_it_makes_drafts_for_itself(data: Documents, tmp_path: Path) -> None:
    folder, model = checkpoint(tmp_path / "model")
    train_joint(folder, model, data, replace(CONFIG, steps=60), tmp_path / "out", recipe={})
    (tmp_path / "out" / "tokenizer.json").unlink()  # it is not one
    made = load(tmp_path / "out", "untrained", (4,))
    request = Request(prompt=(0, 5, 6, 7), policy="confidence", thresholds=(0.5,), max_tokens=12)
    reply = Engine(made.model, made.exits, max_len=48).generate(request)
    plain = Engine(made.model, max_len=48).generate(replace(request, policy="never"))
    assert reply.tokens == plain.tokens and reply.stats.accepted > 0


@pytest.mark.parametrize("family", ["llama", "mamba2", "bamba"])
def test_the_adapter_merged_by_convert_is_the_result(data: Documents, tmp_path: Path, family: str) -> None:
    folder, model = checkpoint(tmp_path / "model", family)
    train_joint(folder, model, data, replace(LORA, steps=3), tmp_path / "out", recipe={})
    source = merge(from_folder(folder), read_adapter(tmp_path / "out" / "adapter"))
    write_folder(source, tmp_path / "merged")
    merged = load_model(tmp_path / "merged")
    for name, value in model.named_parameters():
        assert torch.allclose(value, merged.get_parameter(name), atol=1e-6), name


def test_a_tied_heads_copy_is_left_out(data: Documents, tmp_path: Path) -> None:
    """The old one would be another model's, and the folder could not be loaded."""
    folder, model = checkpoint(tmp_path / "model")
    source = from_folder(folder)
    embedding = source.tensors["model.embed_tokens.weight"]
    tied = replace(
        source,
        config={**source.config, "tie_word_embeddings": True},
        tensors={**source.tensors, "lm_head.weight": embedding},
    )
    write_folder(tied, tmp_path / "tied")
    model = load_model(tmp_path / "tied")
    train_joint(tmp_path / "tied", model, data, replace(CONFIG, steps=2), tmp_path / "out", recipe={})
    again = load_model(tmp_path / "out")
    assert again.head.weight is again.embed.weight and torch.equal(again.embed.weight, model.embed.weight)


@pytest.mark.parametrize("config", [CONFIG, LORA], ids=["full", "lora"])
def test_interrupted_and_resumed_equals_uninterrupted(
    data: Documents, tmp_path: Path, config: JointConfig
) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    folder, model = checkpoint(tmp_path / "model")
    train_joint(folder, model, data, config, tmp_path / "whole", recipe={})
    stopped, metrics = train_joint(
        folder, load_model(folder), data, config, tmp_path / "parts", recipe={},
        limits=Limits(report_every=1), callback=interrupt,
    )  # fmt: skip
    assert stopped.stopped == "interrupted" and metrics is None and not (tmp_path / "parts").exists()
    torch.manual_seed(99)
    resumed = load_model(folder)
    assert train_joint(folder, resumed, data, config, tmp_path / "parts", recipe={})[0].finished
    for name, value in model.named_parameters():
        assert torch.equal(value, resumed.get_parameter(name)), name


def test_targets_that_there_are_not() -> None:
    model = tiny("mamba2").model
    assert targets_in(model, LORA) == ("in_proj", "out_proj")
    assert targets_in(tiny("bamba").model, LORA) == tuple(name for name in TARGETS if name != "x_proj")
    with pytest.raises(UsageError, match="no linear map 'q_proj' in its blocks: in_proj, out_proj"):
        add_lora(model, replace(LORA, lora_targets=("in_proj", "q_proj")))


@pytest.mark.parametrize("family", FAMILIES)
def test_low_rank_changes_begin_at_nothing_and_are_counted(family: str, data: Documents) -> None:
    model, tokens_RT = tiny(family).model, torch.arange(12).view(2, 6)
    before, said = model(tokens_RT), dict(rows(model, LORA, data))
    add_lora(model, LORA)
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    assert said["trainable parameters"] == f"{sum(weight.numel() for weight in learning):,}"
    assert torch.allclose(model(tokens_RT), before, atol=1e-6)
    names = [name for name, _ in tiny(family).model.named_parameters()]
    merge_lora(model)
    assert [name for name, _ in model.named_parameters()] == names


def test_nothing_is_overwritten(data: Documents, tmp_path: Path) -> None:
    folder, model = checkpoint(tmp_path / "model")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("precious")
    with pytest.raises(CheckpointError, match="it holds notes.txt; name a new folder"):
        train_joint(folder, model, data, CONFIG, tmp_path / "out", recipe={})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
        ({"rotation": 0}, "rotation must be at least 1"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"lora_rank": -1}, "lora_rank is -1"),
        ({"exit_scale": -0.1}, "exit_scale is -0.1"),
        ({"optimizer": "adam"}, "unknown optimizer 'adam': one of adamw, schedulefree"),
        ({"lora_targets": ("q_proj",)}, "lora_targets are given, but lora_rank is 0"),
        ({"seed": -1}, "seed of -1"),
    ],
)
def test_impossible_configs(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(CONFIG, **change)


def test_the_recipe(data: Documents, tmp_path: Path) -> None:
    folder, model = checkpoint(tmp_path / "model")
    recipe = find_recipe("layerskip", model.config).changed(
        {"steps": 2, "tokens_per_step": 64, "lora_rank": 2}
    )
    work = Work(folder, model, data, tmp_path / "out")
    assert ("steps", "2 (0.13 times through the data)") in recipe.estimate(work)
    done = recipe.train(work)
    assert done.metrics is not None and done.metrics["after8"]["agreement"] == 1
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["training"]["lora_rank"] == 2
    with pytest.raises(UsageError, match="the recipe layerskip has no gate"):
        recipe.changed({"gate": "mlp"})
