"""The examples of docs/adding.md are whole files, work together, and keep the contract of their folders."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tests" / folder) for folder in ("contract", "engine")]

from checks import hold_to_contract  # noqa: E402
from test_grid import check  # noqa: E402

from offramp import registry  # noqa: E402
from offramp.cli.app import main  # noqa: E402
from offramp.zoo.bundled import HOME  # noqa: E402

TEXT = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
FIRST = re.compile(r"# offramp/(?P<folder>[\w/]+)/(?P<name>\w+)\.py\n")


def files() -> Iterator[tuple[str, str, str]]:
    """Package, name and source of every example that is a file."""
    for source in CODE:
        if found := FIRST.match(source):
            yield "offramp." + found["folder"].replace("/", "."), found["name"], source


FOLDERS = [folder for folder, _, _ in files()]


@pytest.fixture
def added(add_file: Callable[[str, str, str], None]) -> None:
    for folder, name, source in files():
        assert name not in registry.names(folder), f"docs/adding.md adds a {name} that there is already"
        add_file(folder, name, source)


def test_every_kind_of_plug_in_has_its_example() -> None:
    verbs, models = "offramp.cli.verbs", "offramp.models.families"
    exits = ["offramp.exits.gates", "offramp.exits.bridges"]
    assert sorted(FOLDERS) == sorted(
        [verbs, models, *exits, "offramp.mixers", "offramp.policies", "offramp.propagation"]
    )


def test_they_run_together(added: None, capsys: pytest.CaptureFixture[str]) -> None:
    [together] = [source for source in CODE if not FIRST.match(source)]
    with torch.inference_mode():
        exec(compile(together, "docs/adding.md", "exec"), {})
    depths = eval(capsys.readouterr().out)
    assert len(depths) == 12 and set(depths) > {6}, "some left early"


@pytest.mark.parametrize("name", [name for folder, name, _ in files() if "verbs" not in folder])
def test_they_keep_the_contract(name: str, added: None, tmp_path: Path) -> None:
    assert hold_to_contract(name, tmp_path)


def test_they_join_the_grid(added: None) -> None:
    check("shifted", "recent", "gain", "project_entries")
    check("shifted", "recent", "gain", "verify")


@pytest.mark.skipif(not HOME.is_dir(), reason="the bundled checkpoints are not trained yet")
def test_the_verb_runs(added: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "tiny-mamba2", "How many?"]) == 0
    assert int(capsys.readouterr().out) > 1
    assert main(["--help"]) == 0
    assert "Count the tokens of a text." in capsys.readouterr().out
