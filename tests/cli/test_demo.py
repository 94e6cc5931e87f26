"""The demo's drawing: what is told is what is shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from offramp.cli import demonstration
from offramp.cli.demo_report import print_report
from offramp.cli.options import Where
from offramp.engine.reply import Generation, Stats, TokenEvent
from offramp.zoo.prompts import Prompt
from offramp.zoo.showcase.quality import Quality, Trial
from offramp.zoo.showcase.settings import FULL, SETTINGS, VERIFY, Setting, Task
from offramp.zoo.showcase.show import TwinReport

REPLY = (("\n    return", 2), (" cost", 4), (" $1\t$2", 3))


def report() -> TwinReport:
    events = tuple(TokenEvent(i, text, depth, 0.9, False, 0.0, i, i) for i, (text, depth) in enumerate(REPLY))
    generation = Generation((0, 1, 2), "".join(text for text, _ in REPLY), events, "eos", Stats(tokens=3))
    one = Trial(Task(Prompt("code", "def f():\n    x = 1", None, "test"), (1,)), generation, 2)
    rows = tuple(Quality(s, 0.5, 2.25, -0.125, 0.75, 3, 12, 4, 7, 0.25) for s in SETTINGS)
    times = {setting.name: 0.5 for setting in SETTINGS}
    trials = {setting.name: [one] for setting in SETTINGS}
    return TwinReport("tiny-twin", 4, (2, 3), rows, trials, times, 1.04, (2, 3), rows[:2])


def row_of(setting: Setting, text: str) -> str:
    """The setting's line in the table."""
    lines = text.splitlines()
    return next(line for line in lines if line.lstrip().startswith(setting.name) and "%" in line)


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    out = io.StringIO()
    print_report(report(), Console(file=out, width=80, color_system=None))
    text = out.getvalue()
    assert "…" not in text
    assert row_of(SETTINGS[1], text).split()[-8:] == [
        "50.0%",
        "2.2",
        "-12%",
        "75%",
        "3/12",
        "4/7",
        "25%",
        "0.50",
    ]
    assert "1.04" in text, "full depth against itself"
    assert "2 of 3 replies" in text and "bound by dispatch" in text


def test_pictures_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from offramp.cli.picture_quality import draw_quality
    from offramp.cli.picture_text import draw_text

    draw_text(report(), tmp_path / "new" / "depth.png")
    draw_quality([report(), report()], tmp_path / "new" / "quality.png")
    for file in ("depth.png", "quality.png"):
        assert (tmp_path / "new" / file).read_bytes().startswith(b"\x89PNG")


def test_long_text_is_wrapped_on_a_grid() -> None:
    pytest.importorskip("matplotlib")
    from offramp.cli.picture_text import wrapped

    cells = list(wrapped([("abc", 1), ("defg\nh", 2), ("\n\n", 3), ("i", 4)], columns=5))
    assert [(cell.column, cell.line, cell.text, cell.depth) for cell in cells] == [
        (0, 0, "abc", 1),
        (3, 0, "de", 2),
        (0, 1, "fg", 2),
        (0, 2, "h", 2),
        (0, 4, "i", 4),
    ]


def test_without_matplotlib_the_demo_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demonstration.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(demonstration, "_reports", lambda *_: [report()])
    demonstration.run(tmp_path / "out", None, 1.0, Where())
    assert "offramp[plot]" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_missing_twins_are_named(run: Any, tmp_path: Path) -> None:
    result = run("demo", "--checkpoints", tmp_path)
    assert result.code == 1
    assert "tiny-transformer" in result.err and "offramp pretrain" in result.err


def test_the_demo_runs_where_it_is_told(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Where] = []
    monkeypatch.setattr(demonstration, "run", lambda *arguments: told.append(arguments[-1]))
    assert run("demo", "--device", "auto", "--dtype", "bf16").code == 0
    assert told == [Where("auto", "bf16")]


def test_the_whole_demo(run: Any, twins: Path, tmp_path: Path) -> None:
    """Random gates draft nonsense; `verify` must not let any of it through, greedy or sampled."""
    result = run("demo", "--checkpoints", twins, "--out", tmp_path / "out", "--seconds", "0")
    assert result.code == 0, result.err
    for setting in (FULL, VERIFY):
        assert "2/2" in row_of(setting, result.out)
    assert "verify equals full depth in 1 of 1 replies" in result.out
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"depth.png", "quality.png"}
