"""What is built for others to install: the code, its data, and nothing that is not committed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_the_package_and_its_data() -> None:
    """hatchling leaves out what git ignores, which would take a checkpoint away without a word."""
    pytest.importorskip("hatchling")
    from hatchling.builders.wheel import WheelBuilder

    builder = WheelBuilder(str(ROOT))
    built = {file.distribution_path for file in builder.recurse_included_files()}
    wanted = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "offramp").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert built == wanted
    assert {"offramp/py.typed", "offramp/zoo/prompts.jsonl", "offramp/zoo/facts.toml"} <= built


def test_every_requirement_is_pinned_for_the_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    pinned = {
        _normal(line.split("==")[0])
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    assert {_normal(re.split(r"[<>=!~ ]", name)[0]) for name in named} <= pinned


def test_cleaning_up_leaves_trainings_alone() -> None:
    """A run of hours lies in runs/."""
    rule = re.search(r"^clean:\n\t(.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert rule is not None and "runs" not in rule[1].split()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
