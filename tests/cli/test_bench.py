"""`offramp bench`: options, one quick run, and what is said of engines that are not run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from offramp.bench import rounds
from offramp.bench.bound import Bound
from offramp.bench.ratio import Ratio
from offramp.bench.report import Conditions, Report
from offramp.bench.results import Alike, Line
from offramp.cli.bench_prompts import fitted, from_file
from offramp.cli.bench_report import as_text
from offramp.errors import CheckpointError, DataError, UsageError

QUICK = ("--rounds", "2", "--max-tokens", "4", "--threads", "1")


@pytest.fixture
def token_prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"tokens": [1, 2, 3]}\n{"prompt": "abc"}\n')
    return file


def test_a_quick_run(
    run: Any, checkpoint: Path, token_prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes, few tokens: full depth twice and a mode that always drafts."""
    monkeypatch.setattr(rounds, "WARM_UP", 0)
    asked = ("--engines", "verify", "--policy", "always", "--prompts", token_prompts, *QUICK)
    files = ("--json", tmp_path / "bench.json", "--plot", tmp_path / "bench.svg")
    result = run("bench", checkpoint, *asked, *files)
    assert result.code == 0, result.err
    assert "full again" in result.out and "[too few rounds]" in result.out
    found = json.loads((tmp_path / "bench.json").read_text())
    assert [line["engine"] for line in found["lines"]] == ["full", "full again", "verify"]
    assert all(line["rate"] > 0 and line["alike"]["rounds"] == 1 for line in found["lines"])
    assert found["conditions"]["labels"] == [] and found["conditions"]["prompts"] == 2
    assert "<svg" in (tmp_path / "bench.svg").read_text()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((), "--random SHAPE"),
        (("--random", "llama-100m", "MODEL"), "one of the two"),
        (("MODEL", "--engines", "verify,transformer"), "Did you mean 'transformers'"),
        (("MODEL", "--engines", "verify/x"), "unknown engine"),
        (("MODEL", "--batch", "1,0"), "--batch is 0; it must be from 1 to 64"),
        (("MODEL", "--forced", "1.5"), "--forced is 1.5; it must be from 0 to 1"),
        (("MODEL", "--plot", "ratios.pdf"), ".png or .svg"),
        (("MODEL", "--max-tokens", "60"), "no room for a prompt"),
    ],
)
def test_what_cannot_be_asked(run: Any, checkpoint: Path, asked: tuple[str, ...], said: str) -> None:
    result = run("bench", *(checkpoint if part == "MODEL" else part for part in asked))
    assert result.code == 2 and said in result.err


def test_prompts_of_a_file(tmp_path: Path) -> None:
    ids, words = tmp_path / "ids.jsonl", tmp_path / "words.txt"
    ids.write_text('{"tokens": [1, 2]}\n{"tokens": [3]}\n')
    assert from_file(ids, None) == [(1, 2), (3,)]
    words.write_text("a prompt\n")
    with pytest.raises(CheckpointError, match="tokens"):
        from_file(words, None)
    for wrong in ('{"tokens": [true]}', '{"text": "a"}', '{"prompt": ""}'):
        ids.write_text(wrong + "\n")
        with pytest.raises(DataError, match="line 1"):
            from_file(ids, None)
    words.write_text("\n\n")
    with pytest.raises(DataError, match="no prompt"):
        from_file(words, None)


def test_prompts_are_cut_at_their_beginning_and_checked() -> None:
    assert fitted([(1, 2, 3), (4,)], vocab=5, most=2) == [(2, 3), (4,)]
    with pytest.raises(UsageError, match="knows 0 to 3"):
        fitted([(4,)], vocab=4, most=2)


def test_the_report_says_everything() -> None:
    bound = Bound(1.6, "always", 3, 0.8, 0.25, 0.3, 0.1, {0: 0.75, 1: 0.8}, 0.01)
    same, control = Alike(1, 4, 4), Ratio(0.99, 0.98, 1.0)
    lines = (
        Line("full", rate=100.0, ratio=Ratio(1, 1, 1), share=0.87, first=0.02, memory=5 << 20, alike=same),
        Line("full again", rate=99.0, ratio=control, not_slower=True, first=0.02, alike=same),
        Line(
            "verify",
            rate=152.0,
            ratio=Ratio(1.52, 1.5, 1.55),
            not_slower=True,
            first=0.01,
            first_ratio=Ratio(2.0, 1.9, 2.1),
            alike=Alike(0.5, 3, 4),
            bound=bound,
            reached=0.95,
        ),
        Line("llama_cpp", out="llama_cpp is not installed"),
    )
    conditions = Conditions(
        "m", ("agreement forced: 0.8",), "bf16", 3, 15, 64, 8, {"processor": "p", "kernels": "avx2"}
    )
    slow = Line("verify", rate=90.0, ratio=Ratio(0.9, 0.85, 0.95), not_slower=False)
    text = as_text(
        Report(conditions, lines, {4: (Line("full", rate=300.0, ratio=Ratio(1, 1, 1)), lines[1], slow)})
    )
    for said in (
        "m (agreement forced: 0.8) · bf16 · 3 threads · 15 rounds of 64 tokens · p, kernels avx2",
        "1.52 [1.50, 1.55]",
        "87%",
        "20.0 ms",
        "10.0 ms (2.00)",
        "3 of 4",
        "not run: llama_cpp: llama_cpp is not installed",
        "reached 0.95 of the bound 1.60 (3 drafts, policy always; drafts right 80%, w 0.25",
    ):
        assert said in text
    assert "0.90 [0.85, 0.95] slower" in text and "1.55] slower" not in text
    table = [line.split() for line in text.splitlines()]
    assert ["rows", "1", "4"] in table and ["fastest", "verify", "full"] in table
