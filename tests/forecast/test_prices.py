"""Prices are counted from shapes, and timed where there are weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from random_models import tiny

from offramp import registry
from offramp.errors import CheckpointError
from offramp.exits.base import ExitConfig
from offramp.forecast import prices as module
from offramp.forecast.prices import prices
from offramp.forecast.shapes import shapes_of
from offramp.models.checkpoint import save_model
from offramp.models.initial import init_weights

GATE = ExitConfig("mamba", "none", (1,), 32, 1e-5, bottleneck=16)


def test_what_is_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPEATS", 2)
    model = tiny("llama").model
    found = {price.name: price for price in prices(model, GATE)}
    block = sum(weight.numel() for weight in model.blocks[0].parameters())
    assert (found["block"].parameters, found["block"].weights, found["block"].flops_share) == (
        block,
        4 * block,
        1.0,
    )
    assert found["gate linear, full width"].parameters == 32 + 32 + 1  # its norm, its map, its bias
    for gate in registry.names("offramp.exits.gates"):
        assert any(name.startswith(f"gate {gate}") for name in found)
    assert {"bridge block", "bridge lens", "head"} < set(found) and "bridge none" not in found
    assert found["gate mamba, full width"].weights > found["gate mamba, width 16"].weights
    assert all(price.microseconds and price.microseconds > 0 for price in found.values())


def test_shapes_cost_the_same_and_take_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPEATS", 1)
    model = init_weights(tiny("mamba2").model, 0)
    save_model(model, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    bare = shapes_of(tmp_path, torch.float32)
    assert all(weight.is_meta for weight in bare.parameters())
    for mine, theirs in zip(prices(bare, GATE), prices(model, GATE), strict=True):
        assert mine.microseconds is None
        assert (mine.name, mine.parameters, mine.weights) == (theirs.name, theirs.parameters, theirs.weights)
        assert mine.flops_share == theirs.flops_share


def test_shapes_need_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        shapes_of(tmp_path / "nowhere", torch.float32)
