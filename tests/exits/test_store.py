"""An exits folder comes back as it was, or says what is wrong with it."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from offramp.errors import ExitsError, UnknownName, UsageError
from offramp.exits.base import BridgeConfig, ExitConfig
from offramp.exits.checks import is_number
from offramp.exits.store import ExitsInfo, build_exits, default_positions, load_exits, save_exits
from offramp.mixers.attention import Attention
from offramp.models.base import Model
from offramp.models.families import family_for
from offramp.models.fingerprint import fingerprint
from offramp.models.initial import init_weights

BLOCKS = 8
CONFIG = ExitConfig("linear", "none", (2, 4), hidden_size=8, norm_eps=1e-5)


@cache
def backbone(width: int = 8) -> Model:
    """A random Llama; only to be read."""
    raw = {
        "model_type": "llama",
        "vocab_size": 11,
        "hidden_size": width,
        "intermediate_size": 8,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": 2,
    }
    family = family_for("llama")
    return init_weights(family.build(family.config_from(raw)), seed=0)


def info_for(model: Model) -> ExitsInfo:
    return ExitsInfo(
        model_type="llama",
        backbone=fingerprint(model),
        label="exact",
        revision="tiny",
        thresholds=(0.5, 0.75),
        metrics={"after2": {"accuracy": 0.5, "auroc": None}},
        data={"source": "text"},
    )


INFO = info_for(backbone())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_exits(build_exits(CONFIG, BLOCKS), INFO, tmp_path / "exits")
    return tmp_path / "exits"


@pytest.mark.parametrize("gate", ["linear", "mlp", "transformer", "mamba"])
@pytest.mark.parametrize("bridge", ["none", "last_block", "lens", "block"])
@pytest.mark.parametrize("bottleneck", [None, 4])
def test_round_trip(tmp_path: Path, gate: str, bridge: str, bottleneck: int | None) -> None:
    width = 64 if gate == "transformer" else 8
    config = replace(
        CONFIG, gate=gate, bridge=bridge, hidden_size=width, bottleneck=bottleneck and width // 2
    )
    exits, info = build_exits(config, BLOCKS), info_for(backbone(width))
    save_exits(exits, info, tmp_path / "exits")
    loaded, found = load_exits(tmp_path / "exits", backbone(width))
    assert found == info and loaded.config == config and loaded.after == (2, 4)
    for name, value in exits.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    h_RTD = torch.randn(2, 3, width)
    for ours, theirs in zip(exits, loaded, strict=True):
        for mine, other in zip(ours(h_RTD), theirs(h_RTD), strict=True):
            assert torch.equal(mine, other)


@pytest.mark.parametrize(
    ("bridge", "settings"),
    [("lens", BridgeConfig(rank=3)), ("block", BridgeConfig(width=4)), ("block", BridgeConfig(mixer="gate"))],
)
def test_a_bridge_s_settings_come_back(tmp_path: Path, bridge: str, settings: BridgeConfig) -> None:
    config = replace(CONFIG, gate="mamba", bridge=bridge, bottleneck=6, bridge_config=settings)
    exits = build_exits(config, BLOCKS)
    save_exits(exits, INFO, tmp_path / "exits")
    loaded, _ = load_exits(tmp_path / "exits", backbone())
    assert loaded.config == config and all(
        item.bridge.reads_gate == (settings.mixer == "gate") for item in loaded
    )
    assert loaded.state_dict().keys() == exits.state_dict().keys()


def test_exits_from_before_bridges_had_settings(folder: Path) -> None:
    edit_json(lambda raw: raw["config"].pop("bridge_config"))(folder)
    assert load_exits(folder, backbone())[0].config == CONFIG


def test_dtype(folder: Path) -> None:
    exits, _ = load_exits(folder, backbone(), dtype=torch.bfloat16)
    assert {value.dtype for value in exits.state_dict().values()} == {torch.bfloat16}


def test_saving_again_replaces_exits(folder: Path) -> None:
    save_exits(build_exits(replace(CONFIG, after=(1,))), replace(INFO, thresholds=()), folder)
    assert sorted(path.name for path in folder.parent.rglob("*")) == [
        "exits",
        "exits.json",
        "model.safetensors",
    ]
    assert load_exits(folder, backbone())[0].after == (1,)


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
    words = f"another backbone: a llama with weights {INFO.backbone} .tiny., not {fingerprint(backbone(16))}"
    with pytest.raises(ExitsError, match=words):
        load_exits(folder, backbone(16))


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


def config(**fields: object) -> Callable[[Path], None]:
    return edit_json(lambda raw: raw["config"].update(fields))


def info(**fields: object) -> Callable[[Path], None]:
    return edit_json(lambda raw: raw["info"].update(fields))


def pipe(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "exits.json").unlink(), "exits.json cannot be read: No such file"),
        (lambda folder: (folder / "exits.json").write_text("{"), "exits.json cannot be read as JSON"),
        (lambda folder: (folder / "exits.json").write_text("[]"), "exits.json must hold a JSON object"),
        (lambda folder: (folder / "exits.json").write_text("[" * 100_000), "cannot be read as JSON"),
        (lambda folder: (folder / "exits.json").write_text('{"info": 1}'), "exits.json is damaged"),
        (edit_json(lambda raw: raw.pop("config")), "exits.json is damaged"),
        (edit_json(lambda raw: raw["info"].pop("backbone")), r"missing fields \['backbone'\]"),
        (config(colour=1), r"unknown fields \['colour'\]"),
        (config(**{f"x{i}": i for i in range(7)}), r"unknown fields \['x0', 'x1', 'x2'\] and 4 more;"),
        (config(**{"x" * 9000: 1}), r"unknown fields \['x{1,20}\.\.\.x{1,20}'\];"),
        (info(format="9" * 9000), r"is of format '9{1,20}\.\.\.9{1,20}'; this"),
        (info(format=9), "format 9; this version reads format 1"),
        (config(gate="liner"), "Did you mean 'linear'"),
        (config(gate=None), "gate must be a name, not None"),
        (config(gate=["linear"]), "gate must be a name"),
        (config(bridge=7), "bridge must be a name, not 7"),
        (config(after=[4, 2]), "ascending"),
        (config(after=3), "ascending.*got 3"),
        (config(after=["a", 2]), r"ascending.*got \('a', 2\)"),
        (config(after=[1, 9]), "1 to 7, for a model of 8"),
        (config(after=[1, 10**30]), "ascending"),
        (config(after=list(range(1, 1025))), "2 thresholds for 1024 exits"),
        (config(after=list(range(1, 20000))), "got 19,999 of them, and there can be 1,024"),
        (config(bridge="last_block", after=[2, 7]), "saves nothing"),
        (config(hidden_size="x"), "hidden_size must be an integer"),
        (config(hidden_size=2 * 10**9), "hidden_size must be an integer from 1 to"),
        (config(hidden_size=16), "hidden_size is 16, but the model's is 8"),
        (config(norm_eps="x"), "norm_eps must be a number above 0"),
        (config(norm_eps=0), "norm_eps must be a number above 0"),
        (config(norm_eps=10**400), "norm_eps must be a number above 0"),
        (config(norm="yes"), "norm must be true or false"),
        (config(bottleneck=-1), "bottleneck must be a width from 1"),
        (config(bottleneck=True), "bottleneck must be a width from 1"),
        (config(gate="mamba", bottleneck=1 << 20), "exits.0.gate.* is missing"),
        (config(gate="transformer", bottleneck=17), "needs an even width, not 17"),
        (config(bridge_config=[]), "bridge_config must be an object"),
        (config(bridge_config={"depth": 3}), r"unknown fields \['depth'\]"),
        (config(bridge_config={"rank": "x"}), "bridge rank must be an integer from 1"),
        (config(bridge_config={"rank": 8}), "'none' has no rank to set to 8"),
        (config(bridge="block", bridge_config={"mixer": "gat"}), "Did you mean 'gate'"),
        (config(bridge="block", bridge_config={"mixer": "gate"}), "no trunk that a bridge could share"),
        (config(bridge="block", bridge_config={"width": 1 << 20}), "exits.0.bridge.* is missing"),
        (info(backbone=5), "backbone must be a text"),
        (info(label_k=0), "label_k must be an integer of at least 1"),
        (info(thresholds=["a", 0.1]), "thresholds must be a list of numbers from 0 to 1"),
        (info(thresholds=[7, 0.1]), "thresholds must be a list of numbers from 0 to 1"),
        (info(thresholds=[0.1]), "suggests 1 thresholds for 2 exits"),
        (info(metrics=[1, 2]), "metrics must be numbers"),
        (info(metrics={"after2": {"accuracy": "b"}}), "metrics must be numbers"),
        (info(metrics={"after2": {"accuracy": -(10**400)}}), "metrics must be numbers"),
        (
            info(metrics={f"after{i}": {f"m{i}": 1} for i in range(65)}),
            "at most 1,024 exits and 64 names in all",
        ),
        (info(metrics={f"after{i}": {} for i in range(1025)}), "at most 1,024 exits and 64 names in all"),
        (info(metrics={"x" * 257: {"accuracy": 1}}), "each of at most 256 characters"),
        (info(metrics={"after2": {"x" * 257: 1}}), "each of at most 256 characters"),
        (info(thresholds=[0.5] * 1025), "numbers from 0 to 1, at most 1,024"),
        (info(revision="x" * 257), "revision must be of at most 256 characters"),
        (info(data=3), "data must be an object"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 9), "model.safetensors is damaged"),
        (pipe, "model.safetensors is missing"),
        (edit_weights(lambda weights: weights.pop(BIAS)), f"{BIAS} is missing"),
        (edit_weights(lambda weights: weights.update(more=torch.ones(1))), "more is not part of these"),
        (edit_weights(lambda weights: weights.update({BIAS: torch.ones(2)})), r"shape \[2\], not \[1\]"),
        (edit_weights(lambda weights: weights.update({BIAS: torch.tensor([1])})), "type torch.int64"),
        (edit_weights(lambda weights: weights.update({BIAS: torch.tensor([torch.nan])})), "not finite"),
        (
            edit_weights(lambda weights: weights.update({BIAS: torch.tensor([1e300]).double()})),
            "not finite in torch.float32",
        ),
    ],
)
def test_damage_is_named(folder: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(folder)
    with pytest.raises(ExitsError, match=words):
        load_exits(folder, backbone())


def test_default_positions() -> None:
    assert default_positions(16) == (4, 8, 10, 12, 14)
    assert default_positions(32) == (8, 16, 20, 24, 28)
    assert default_positions(4) == (1, 2, 3)
    assert default_positions(2) == (1,)
    assert default_positions(1) == ()


def test_the_largest_that_may_be(folder: Path) -> None:
    """Every limit is one that can be reached."""
    metrics = {"x" * 256: {f"{i}": float(i) for i in range(64)}} | {f"after{i}": {} for i in range(1023)}
    largest = replace(INFO, revision="x" * 256, metrics=metrics)
    save_exits(build_exits(CONFIG), largest, folder)
    assert load_exits(folder, backbone())[1] == largest
    assert replace(CONFIG, after=tuple(range(1, 1025))).after[-1] == 1024
    assert is_number(sys.float_info.max) and not is_number(math.inf) and not is_number(math.nan)


@pytest.mark.parametrize("after", [(), (0, 2), (2, 2), (4, 2), (2, 8)])
def test_impossible_positions(after: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="exits need block numbers"):
        build_exits(replace(CONFIG, after=after), 8)


def test_an_exit_that_saves_nothing() -> None:
    with pytest.raises(UsageError, match="saves nothing"):
        build_exits(replace(CONFIG, bridge="last_block", after=(2, 7)), 8)
    build_exits(replace(CONFIG, bridge="none", after=(2, 7)), 8)


def test_unknown_plug_ins() -> None:
    for kind in ("gate", "bridge"):
        with pytest.raises(UnknownName, match=f"unknown {kind} 'mlpp'"):
            build_exits(replace(CONFIG, **{kind: "mlpp"}))


@pytest.mark.parametrize("bottleneck", [-5, 0, 1 << 62, 2.0])
def test_impossible_bottlenecks(bottleneck: int) -> None:
    with pytest.raises(UsageError, match="bottleneck must be a width from 1 .*, or none"):
        replace(CONFIG, bottleneck=bottleneck)


def test_the_transformer_gate_at_any_even_width() -> None:
    for width in (2, 30, 64, 100, 1000, 1018):
        config = replace(CONFIG, gate="transformer", hidden_size=width, bottleneck=None)
        gate = next(iter(build_exits(config))).gate
        assert gate(torch.randn(1, 3, width)).isfinite().all()
        assert isinstance(gate.mixer, Attention) and gate.mixer.heads * gate.mixer.head_dim == width
    with pytest.raises(UsageError, match="needs an even width, not 17: choose a width of 18"):
        build_exits(replace(CONFIG, gate="transformer", bottleneck=17))


def test_select(folder: Path) -> None:
    exits, _ = load_exits(folder, backbone())
    assert [item.after for item in exits.select([4])] == [4]
    with pytest.raises(UsageError, match=r"no exits after blocks \[3\]; these exits sit after \[2, 4\]"):
        exits.select([3])
