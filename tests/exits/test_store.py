"""An exits folder comes back as it was, or says what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from offramp.errors import ExitsError, UnknownName, UsageError
from offramp.exits.base import ExitConfig
from offramp.exits.store import ExitsInfo, build_exits, default_positions, load_exits, save_exits

CONFIG = ExitConfig("linear", "none", (2, 4), hidden_size=8, norm_eps=1e-5)
INFO = ExitsInfo(
    model_type="llama",
    backbone="abc",
    label="exact",
    revision="tiny",
    thresholds=(0.5, 0.75),
    metrics={"after2": {"accuracy": 0.5, "auroc": None}},
    data={"source": "text"},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_exits(build_exits(CONFIG, 8), INFO, tmp_path / "exits")
    return tmp_path / "exits"


@pytest.mark.parametrize("gate", ["linear", "transformer", "mamba"])
@pytest.mark.parametrize("bridge", ["none", "last_block"])
@pytest.mark.parametrize("bottleneck", [None, 4])
def test_round_trip(tmp_path: Path, gate: str, bridge: str, bottleneck: int | None) -> None:
    width = 64 if gate == "transformer" else 8
    config = replace(
        CONFIG, gate=gate, bridge=bridge, hidden_size=width, bottleneck=bottleneck and width // 2
    )
    exits = build_exits(config, 8)
    save_exits(exits, INFO, tmp_path / "exits")
    loaded, info = load_exits(tmp_path / "exits", "abc")
    assert info == INFO and loaded.config == config and loaded.after == (2, 4)
    for name, value in exits.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    h_RTD = torch.randn(2, 3, width)
    for ours, theirs in zip(exits, loaded, strict=True):
        assert torch.equal(ours.gate(h_RTD), theirs.gate(h_RTD))


def test_dtype(folder: Path) -> None:
    exits, _ = load_exits(folder, "abc", dtype=torch.bfloat16)
    assert {value.dtype for value in exits.state_dict().values()} == {torch.bfloat16}


def test_saving_again_replaces_exits(folder: Path) -> None:
    save_exits(build_exits(replace(CONFIG, after=(1,))), INFO, folder)
    assert sorted(path.name for path in folder.parent.rglob("*")) == [
        "exits",
        "exits.json",
        "model.safetensors",
    ]
    assert load_exits(folder, "abc")[0].after == (1,)


@pytest.mark.parametrize("target", [".", "..", "../model.safetensors"])
def test_saving_never_replaces_anything_else(tmp_path: Path, target: str) -> None:
    """Neither the model, nor the folder of all its exit sets, nor a file."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("weights")
    save_exits(build_exits(CONFIG), INFO, tmp_path / "exits" / "linear")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ExitsError, match=r"is not an exits folder \(.*\); name a new one"):
        save_exits(build_exits(CONFIG), INFO, tmp_path / "exits" / target)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_another_backbone(folder: Path) -> None:
    with pytest.raises(ExitsError, match="another backbone: a llama with weights abc .tiny., not xyz"):
        load_exits(folder, "xyz")


def edit_json(change: Callable[[dict[str, dict[str, object]]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        raw = json.loads((folder / "exits.json").read_text())
        change(raw)
        (folder / "exits.json").write_text(json.dumps(raw))

    return apply


def edit_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return apply


BIAS = "exits.1.gate.out.bias"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "exits.json").unlink(), "no exits in .*cannot read exits.json"),
        (lambda folder: (folder / "exits.json").write_text("{"), "exits.json is damaged"),
        (lambda folder: (folder / "exits.json").write_text("[]"), "exits.json is damaged"),
        (edit_json(lambda raw: raw.pop("config")), "exits.json is damaged"),
        (edit_json(lambda raw: raw["config"].update(colour=1)), r"unknown fields \['colour'\]"),
        (edit_json(lambda raw: raw["info"].update(format=9)), "format 9; this version reads format 1"),
        (edit_json(lambda raw: raw["config"].update(gate="liner")), "Did you mean 'linear'"),
        (edit_json(lambda raw: raw["config"].update(after=[4, 2])), "ascending"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing or damaged"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 9), "missing or damaged"),
        (edit_weights(lambda weights: weights.pop(BIAS)), f"{BIAS} is missing"),
        (edit_weights(lambda weights: weights.update(more=torch.ones(1))), "more is not part of these"),
        (edit_weights(lambda weights: weights.update({BIAS: torch.ones(2)})), r"shape \[2\], not \[1\]"),
        (edit_weights(lambda weights: weights.update({BIAS: torch.tensor([1])})), "type torch.int64"),
        (edit_weights(lambda weights: weights.update({BIAS: torch.tensor([torch.nan])})), "not finite"),
    ],
)
def test_damage_is_named(folder: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(folder)
    with pytest.raises(ExitsError, match=words):
        load_exits(folder, "abc")


def test_default_positions() -> None:
    assert default_positions(16) == (4, 8, 10, 12, 14)
    assert default_positions(32) == (8, 16, 20, 24, 28)
    assert default_positions(4) == (1, 2, 3)
    assert default_positions(2) == (1,)
    assert default_positions(1) == ()


@pytest.mark.parametrize("after", [(), (0, 2), (2, 2), (4, 2), (2, 8)])
def test_impossible_positions(after: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="exits need block numbers"):
        build_exits(replace(CONFIG, after=after), 8)


def test_an_exit_that_saves_nothing() -> None:
    with pytest.raises(UsageError, match="saves nothing"):
        build_exits(replace(CONFIG, bridge="last_block", after=(2, 7)), 8)
    build_exits(replace(CONFIG, bridge="none", after=(2, 7)), 8)


def test_unknown_plug_ins() -> None:
    with pytest.raises(UnknownName, match="gates 'mlpp'"):
        build_exits(replace(CONFIG, gate="mlpp"))


def test_select(folder: Path) -> None:
    exits, _ = load_exits(folder, "abc")
    assert [item.after for item in exits.select([4])] == [4]
    with pytest.raises(UsageError, match=r"no exits after blocks \[3\]; these exits sit after \[2, 4\]"):
        exits.select([3])
