"""Every architecture in its folder, as the loader and the engine rely on it, at a tiny size and random weights."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from random_models import CONTEXT, tiny
from rich.console import Console

from offramp import registry
from offramp.cli.anatomy import Anatomy
from offramp.cli.inspection import tables
from offramp.engine.load import load
from offramp.models.base import Block, Family, Model
from offramp.models.checkpoint import load_model, save_model

FOLDER = "offramp.models.families"
FAMILIES = registry.names(FOLDER)


def types_of(name: str) -> tuple[str, ...]:
    base: type[Family] = Family
    return registry.find(FOLDER, name, base).model_types


def tokens() -> torch.Tensor:
    return torch.randint(0, 37, (1, 29), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def through_states(model: Model, tokens_RT: torch.Tensor) -> torch.Tensor:
    """Logits of a prompt cell of 7 tokens, then of chunks of 1, 5 and 16."""
    blocks = [cast(Block, block) for block in model.blocks]
    states = [block.mixer.init_state(2, CONTEXT) for block in blocks]
    cell, *chunks = tokens_RT.split([7, 1, 5, 16], dim=1)
    x_RTD = model.embed(cell)
    for block, state in zip(blocks, states, strict=True):
        x_RTD = block.prefill(x_RTD, state, [1])
    pieces = [x_RTD]
    for chunk in chunks:
        x_ND, n = model.embed(chunk[0]), [chunk.shape[1]]
        for block, state in zip(blocks, states, strict=True):
            x_ND = block(x_ND, state, [1], n)
            block.mixer.commit(state, [1], n)
        pieces.append(x_ND[None])
    return model.logits(torch.cat(pieces, dim=1))


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_whole_sequence_equals_cells_and_chunks(name: str) -> None:
    for model_type in types_of(name):
        model = tiny(model_type, seed=1, dtype=torch.float64).model
        torch.testing.assert_close(through_states(model, tokens()), model(tokens()), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_saved_and_loaded_it_says_the_same(name: str, tmp_path: Path) -> None:
    for model_type in types_of(name):
        model = tiny(model_type, seed=2).model
        save_model(model, tmp_path / model_type)
        again = load_model(tmp_path / model_type)
        assert torch.equal(again(tokens()), model(tokens())) and again.config == model.config
        raw: dict[str, Any] = json.loads((tmp_path / model_type / "config.json").read_text())
        assert raw["model_type"] == model_type and raw["architectures"], "transformers looks for both"


@pytest.mark.parametrize("name", FAMILIES)
def test_inspect_shows_every_kind_of_block(name: str, tmp_path: Path) -> None:
    """In 80 columns: how many blocks there are of each mixer, and what each is made of."""
    for model_type in types_of(name):
        model = tiny(model_type, seed=4).model
        save_model(model, tmp_path / model_type)
        anatomy = Anatomy.of(load(tmp_path / model_type, "none"))
        text = io.StringIO()
        Console(file=text, width=80).print(*tables(anatomy))
        assert max(map(len, text.getvalue().splitlines())) <= 80
        mixers = {type(cast(Block, block).mixer).__name__.lower() for block in model.blocks}
        assert all(mixer in text.getvalue() for mixer in (*mixers, model_type))
        assert {kind.mixer for kind in anatomy.kinds} == mixers
        assert sorted(i for kind in anatomy.kinds for i in kind.numbers) == list(range(len(model.blocks)))
        whole = sum(kind.parameters * len(kind.numbers) for kind in anatomy.kinds)
        assert whole == sum(weight.numel() for weight in model.blocks.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_learns(name: str) -> None:
    """A parameter without a gradient is one that was forgotten in the forward pass."""
    for model_type in types_of(name):
        model = tiny(model_type, seed=3).model.train()
        model(tokens()).square().sum().backward()
        assert [n for n, w in model.named_parameters() if w.grad is None or not w.grad.any()] == []


@pytest.mark.parametrize("name", FAMILIES)
def test_one_file_reads_a_model_type(name: str) -> None:
    others = [t for other in registry.names(FOLDER) if other != name for t in types_of(other)]
    assert types_of(name) and not set(types_of(name)) & set(others)
