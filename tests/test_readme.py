"""What the README shows works as it stands there, with the bundled models."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from offramp.cli.app import main
from offramp.zoo.bundled import HOME

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = re.findall(r"^\.venv/bin/offramp .*", README, re.MULTILINE)
LINES_OF_YOUR_OWN = re.findall(r"^offramp .*", README, re.MULTILINE)

needs_checkpoints = pytest.mark.skipif(
    not HOME.is_dir(), reason="the bundled checkpoints are not trained yet (offramp/zoo/checkpoints)"
)


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OFFRAMP_THREADS", "1")


def arguments(line: str, model: str) -> list[str]:
    """Of a shell line, with another model; the command's own name and the comment are left out."""
    words = shlex.split(line, comments=True)[1:]
    return [model if word in ("path/to/model", "tiny-mamba2") else word for word in words]


@needs_checkpoints
def test_the_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = re.findall(r"```python\n(import offramp\n.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("\n") > 1, "a line a token"


@needs_checkpoints
@pytest.mark.parametrize("line", [line for line in LINES if " train " not in line])
def test_the_shell_lines_run(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(line, "tiny-mamba2")) == 0, capsys.readouterr().err


@pytest.mark.parametrize("line", LINES)
def test_the_shell_lines_are_understood(
    line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An option that has gone would be a usage error (2); here all that is wrong is the empty model folder."""
    assert main(arguments(line, str(tmp_path))) == 1
    assert "config.json" in capsys.readouterr().err


@pytest.mark.parametrize("line", LINES_OF_YOUR_OWN)
def test_shell_lines_with_your_own_checkpoints_are_understood(
    line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("path/to/model").mkdir(parents=True)
    Path("my.jsonl").write_text('{"text": "Once upon a time there was a model."}\n', encoding="utf-8")
    Path("dev.tsv").write_text("Who left early?\t['A token']\n" * 4, encoding="utf-8")
    assert main(shlex.split(line, comments=True)[1:]) == 1
    assert "path/to/model" in capsys.readouterr().err


def test_the_loop_is_the_one_that_runs() -> None:
    [shown] = re.findall(r"```python\n(def _segment.*?)```", README, re.DOTALL)
    source = (ROOT / "offramp/engine/decode.py").read_text(encoding="utf-8")
    assert shown.split(":\n", 1)[1] in source


def test_files_that_are_pointed_to_exist() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", re.sub(r"<!--.*?-->", "", README, flags=re.DOTALL))
    assert targets and not [target for target in targets if not (ROOT / target).exists()]
