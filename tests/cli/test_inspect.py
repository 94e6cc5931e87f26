"""`offramp inspect`: every parameter is counted once, and exits that do not fit say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


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
