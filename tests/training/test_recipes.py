"""Recipes: whole, frozen, changeable by their fields' names, and what the paper's say."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from offramp import registry
from offramp.data.documents import Documents
from offramp.errors import UnknownName, UsageError
from offramp.exits.base import ExitConfig, Gate
from offramp.exits.store import build_exits, load_exits
from offramp.models.base import ModelConfig
from offramp.models.families import family_for
from offramp.registry import find, names
from offramp.training.exits_job import loss_weights
from offramp.training.gate_sizes import (
    EQUAL,
    SIZES,
    TOLERANCE,
    equal_bottleneck,
    gate_of_size,
    gate_parameters,
)
from offramp.training.loop import Limits
from offramp.training.observe import observe
from offramp.training.recipe import RECIPES, ExitRecipe, Work, find_recipe
from offramp.training.standard import standard
from tests.engine.random_models import raw_config
from tests.training.tiny import WIDTH, counting_documents, tiny_model


def config_of(model_type: str, blocks: int = 8) -> ModelConfig:
    raw = raw_config(model_type) | {"num_hidden_layers": blocks}
    return family_for(model_type).config_from(raw)


def sized(blocks: int, width: int = 64) -> ModelConfig:
    return ModelConfig("any", 32, width, blocks, 8192, 1e-5, False, 0, (0,))


@pytest.mark.parametrize("model_type", ["llama", "mamba", "mamba2", "bamba"])
@pytest.mark.parametrize("name", names(RECIPES))
def test_every_recipe_fits_every_kind_of_model(name: str, model_type: str) -> None:
    recipe = find_recipe(name, config_of(model_type))
    recipe.check(config_of(model_type))
    assert recipe.name == name.replace("_", "-") and json.loads(json.dumps(recipe.as_json()))
    assert (import_module(f"{RECIPES}.{name}").__doc__ or "").partition("\n")[0].endswith(".")
    with pytest.raises(FrozenInstanceError):
        recipe.name = "other"  # type: ignore[misc]


def test_names_may_be_written_with_hyphens() -> None:
    assert find_recipe("paper-text", sized(8)) == find_recipe("paper_text", sized(8))
    with pytest.raises(UnknownName, match="unknown recipe 'paper_txt'. Did you mean 'paper_text'"):
        find_recipe("paper-txt", sized(8))


def test_a_recipe_is_one_file(add_file: Any) -> None:
    source = """
'''Nothing new.'''
from offramp.training.standard import standard

def recipe(model):
    return standard(model, "brand-new")
"""
    add_file(RECIPES, "brand_new", source)
    assert "brand_new" in registry.names(RECIPES) and find_recipe("brand-new", sized(8)).name == "brand-new"


@pytest.mark.parametrize(
    ("width", "size"), [(160, "small"), (160, "large"), (216, "medium"), (576, "small"), (4096, "medium")]
)
def test_gates_of_a_size_have_equally_many_parameters(width: int, size: str) -> None:
    """Counted in gates that were really built."""
    counts = []
    for gate in EQUAL:
        config = ExitConfig(gate, "none", (1,), width, 1e-5, equal_bottleneck(gate, width, size))
        made = find("offramp.exits.gates", gate, Gate)(config)
        counts.append(sum(weight.numel() for weight in made.parameters()))
        assert counts[-1] == gate_parameters(gate, width, config.bottleneck)
    assert max(counts) <= (1 + TOLERANCE) * min(counts)
    assert counts[0] == pytest.approx(SIZES[size] * width, rel=0.12)


@pytest.mark.parametrize("gate", EQUAL)
def test_the_bottleneck_is_the_nearest_there_is(gate: str) -> None:
    width, wanted = 96, 9000
    off = abs(gate_parameters(gate, width, gate_of_size(gate, width, wanted)) - wanted)
    for other in range(2, 200, 2):
        assert off <= abs(gate_parameters(gate, width, other) - wanted)


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="gate 'linear' has no inner width"):
        gate_of_size("linear", 64, 1000)
    with pytest.raises(UsageError, match="unknown size 'larg'. Did you mean 'large'"):
        equal_bottleneck("mlp", 64, "larg")


def test_single_fields_are_changed_by_name() -> None:
    recipe = standard(sized(8)).changed({"steps": 7, "gate": "mlp", "rank": 3, "bridge": "lens"})
    assert (recipe.training.steps, recipe.exits.gate, recipe.exits.bridge_config.rank) == (7, "mlp", 3)
    assert recipe.exits.bottleneck == 64 and recipe.name == "standard"
    with pytest.raises(UsageError, match="the recipe standard has no dropout that could be set"):
        recipe.changed({"dropout": 0.5})
    with pytest.raises(UsageError, match="the recipe standard has no name"):
        recipe.changed({"name": "mine"})
    with pytest.raises(UsageError, match="at least 1"):
        recipe.changed({"steps": 0})


@pytest.mark.parametrize("name", ["paper-text", "paper-code"])
def test_what_the_papers_recipes_share(name: str) -> None:
    recipe = find_recipe(name, sized(32))
    assert isinstance(recipe, ExitRecipe)
    exits, training = recipe.exits, recipe.training
    assert exits.after == (16, 20, 24, 28)  # after the blocks 15, 19, 23, 27, counted from 0 (Mistral)
    assert find_recipe(name, sized(64)).as_json()["exits"]["after"] == (32, 40, 48, 56)  # Codestral-Mamba
    assert (exits.bottleneck, exits.norm) == (None, False)
    assert (training.rate, training.optimizer, training.label_k) == (2.5e-4, "schedulefree", 15)
    assert (training.window, training.steps) == (4096, 900)
    assert loss_weights(4, training.weighting) == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_where_the_papers_text_and_code_differ() -> None:
    text, code = (find_recipe(name, sized(32)).as_json() for name in ("paper-text", "paper-code"))
    assert (text["training"]["label"], code["training"]["label"]) == (
        "exit_in_oracle_topk",
        "oracle_in_exit_topk",
    )
    assert (text["exits"]["bridge"], code["exits"]["bridge"]) == ("none", "last_block")
    assert (text["training"]["propagation"], code["training"]["propagation"]) == ("copy_block", "project")
    assert (text["exits"]["gate"], code["exits"]["gate"]) == ("mamba", "linear")


def test_one_document_a_step(tmp_path: Path) -> None:
    """However long, as in the paper."""
    data = Documents(counting_documents(5, 40) + counting_documents(5, 20), counting_documents(3, 30), "here")
    recipe = find_recipe("paper-text", tiny_model().config).changed({"steps": 4, "gate": "linear"})
    seen: list[int] = []
    work = Work(
        tmp_path, tiny_model(), data, tmp_path / "exits", Limits(report_every=1),
        callback=lambda progress: seen.append(progress.tokens),
    )  # fmt: skip
    assert recipe.train(work).outcome.finished
    steps = [b - a for a, b in zip([0, *seen], seen, strict=False)]
    assert set(steps) <= {41, 21} and len(steps) == 4


def test_the_codes_label_reads_the_exit_as_it_is() -> None:
    """And the agreement that is told is about the token that is emitted, which has been through the last block."""
    model, rows = tiny_model(seed=3), counting_documents(6, 20, seed=8)
    recipe = find_recipe("paper-code", model.config)
    assert isinstance(recipe, ExitRecipe)
    training = replace(recipe.training, label_k=2)
    exits = build_exits(recipe.exits, 8)
    seen = observe(model, exits, rows, training)
    hidden = model.hidden_states(torch.tensor(rows))
    full = model.logits(hidden[-1]).argmax(-1)
    for e, after in enumerate(exits.after):
        best = model.logits(hidden[after]).topk(2).indices
        assert torch.equal(seen.labels_EN[e], (best == full[..., None]).any(-1).flatten())
    through = observe(model, exits, rows, replace(training, label_reads="bridge"))
    assert torch.equal(seen.agreed_EN, through.agreed_EN) and not torch.equal(
        seen.labels_EN, through.labels_EN
    )


def test_a_recipe_is_kept_with_the_exits(tmp_path: Path) -> None:
    model = tiny_model()
    data = Documents(counting_documents(8, 30), counting_documents(3, 30, seed=1), "here")
    recipe = find_recipe("linear", model.config).changed({"steps": 2, "tokens_per_step": 64})
    done = recipe.train(Work(tmp_path, model, data, tmp_path / "exits"))
    exits, info = load_exits(tmp_path / "exits", model)
    assert info.data["recipe"] == json.loads(json.dumps(recipe.as_json()))
    assert info.data["recipe"]["name"] == "linear" and info.data["recipe"]["training"]["steps"] == 2
    assert info.data["sha256"] == data.sha256()
    assert exits.config.hidden_size == WIDTH and done.metrics == info.metrics
