"""`offramp inspect`: every parameter is counted once, and exits that do not fit say so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from offramp.zoo import bundled


def test_parts_add_up_to_the_model(run: Any, checkpoint: Path) -> None:
    found = json.loads(run("inspect", checkpoint, "--json").out)
    assert sum(part["parameters"] for part in found["parts"]) == found["parameters"]
    assert sum(part["share"] for part in found["parts"]) == pytest.approx(1.0)
    assert (found["family"], found["blocks"], found["width"]) == ("llama", 4, 16)


def test_the_head_is_measured_in_blocks(run: Any, checkpoint: Path) -> None:
    found = json.loads(run("inspect", checkpoint, "--json").out)
    blocks = next(part["parameters"] for part in found["parts"] if part["name"] == "blocks")
    assert found["head_blocks"] == found["vocabulary"] * found["width"] / (blocks / found["blocks"])


def test_exits_are_described(run: Any, checkpoint: Path) -> None:
    [exits] = json.loads(run("inspect", checkpoint, "--json").out)["exits"]
    assert (exits["name"], exits["after"], exits["gate"], exits["label"]) == (
        "linear",
        [1, 2],
        "linear",
        "exact",
    )
    assert 0 < exits["gate_share"] < 0.1
    text = run("inspect", checkpoint).out
    assert "after 1" in text and "0.500" in text


def test_no_exits_says_how_to_train_them(run: Any, bare_checkpoint: Path) -> None:
    assert "offramp train" in run("inspect", bare_checkpoint).out


def test_foreign_exits_do_not_hide_the_rest(run: Any, bare_checkpoint: Path) -> None:
    broken = bare_checkpoint / "exits" / "broken"
    broken.mkdir(parents=True)
    (broken / "exits.json").write_text("{}")
    result = run("inspect", bare_checkpoint)
    assert result.code == 0 and "cannot be used" in result.out and "family" in result.out


def test_a_checkpoint_cannot_move_the_cursor(run: Any, checkpoint: Path, bare_checkpoint: Path) -> None:
    """Names and texts of somebody's exits folder go to the terminal."""
    good = json.loads((checkpoint / "exits/linear/exits.json").read_text())
    good["info"]["label"] = "\x1b[2Jlabel"
    good["info"]["metrics"] = {"after1": {"\x9b1mrow": 0.5}}
    foreign = {**good, "info": {**good["info"], "backbone": "\x1b]0;title\x07"}}
    for name, config in (("good\x1b[1m", good), ("foreign", foreign)):
        folder = bare_checkpoint / "exits" / name
        folder.mkdir(parents=True)
        (folder / "exits.json").write_text(json.dumps(config))
        shutil.copy(checkpoint / "exits/linear/model.safetensors", folder)
    for result in (run("inspect", bare_checkpoint), run("inspect", bare_checkpoint, "--json")):
        assert result.code == 0
        assert all(char.isprintable() or char == "\n" for char in result.out)


def test_a_bundled_model_goes_by_its_name(
    run: Any, bare_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bare_checkpoint, bare_checkpoint.parent / "tiny-mamba2")
    monkeypatch.setattr(bundled, "HOME", bare_checkpoint.parent)
    assert "family" in run("inspect", "tiny-mamba2").out
