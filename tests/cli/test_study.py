"""`offramp study` and `offramp report`, as a user types them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from offramp.cli import studying
from offramp.cli.app import main
from offramp.cli.study_data import Files, from_documents
from offramp.errors import DataError
from offramp.study.inputs import read_prompts
from offramp.study.scale import QUICK
from offramp.training.checkpoint import sole_writer

TINY = replace(
    QUICK,
    seeds=1,
    steps=2,
    tokens=256,
    bridges=(),
    paper=(),
    training_tokens=20_000,
    tune_texts=4,
    tune_length=48,
    code=2,
    answers=1,
    code_tokens=8,
    shares=(0.3, 0.7),
    gates=("linear", "mamba-medium"),
    propagations=("verify",),
    policies=("margin", "random"),
    dropped=(1,),
    timed=1,
)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Documents of one kind that differ."""
    lines = [{"id": str(i), "text": f"def f{i}(x):\n    return x + {i}\n" * 12} for i in range(40)]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_plan_is_shown_and_nothing_is_run(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert (
        main(["study", "tiny-mamba2", "--data", str(texts), "--out", str(out), "--quick", "--dry-run"]) == 0
    )
    said = capsys.readouterr().err
    assert "quick study: 40 jobs, about" in said and "core minutes" in said
    assert not (out / "results").exists() and not (out / "study.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "0"], "--seeds is 0"),
        (["--processes", "0"], "--processes is 0"),
        (["--data", "missing.jsonl"], "missing.jsonl"),
        (["--data", ""], "the data has no name"),
        (["no-such-model", "--data", "missing.jsonl"], "no-such-model"),
        (["tiny-mamba2", "tiny-mamba2"], "two of the models are called tiny-mamba2"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "--out", str(tmp_path / "out"), *arguments]) in (1, 2)
    assert said in capsys.readouterr().err


def test_another_model_needs_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "--data" in capsys.readouterr().err


def test_a_folder_without_a_study_has_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 1
    assert "holds no study" in capsys.readouterr().err


def test_documents_go_to_one_place_each(texts: Path, tmp_path: Path) -> None:
    files = Files(tmp_path / "data")
    from_documents(files, texts, "text", TINY)
    parts = [
        [json.loads(line)["text"] for line in path.read_text().splitlines()]
        for path in (files.training, files.tune)
    ]
    prompts = [prompt.prompt for prompt in read_prompts(files.prompts)]
    assert parts[0] and parts[1] and prompts and not set(parts[0]) & set(parts[1])
    assert not [p for p in prompts for part in parts for text in part if text.startswith(p)]
    before = files.sha256()
    from_documents(files, texts, "text", TINY)
    assert files.sha256() == before
    with pytest.raises(DataError, match="words"):
        from_documents(files, texts, "words", TINY)
    from_documents(files, texts, "text", TINY, most=8)
    fewer = [line for path in (files.training, files.tune) for line in path.read_text().splitlines()]
    assert 0 < len(fewer) <= 8 < sum(map(len, parts))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_whole_study(
    texts: Path,
    dtype: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every kind of job, the report, and a second call that finds everything done."""
    monkeypatch.setattr(studying, "QUICK", TINY)
    out = tmp_path / "out"
    command = ["study", "tiny-mamba2", "--data", str(texts), "--out", str(out), "--quick", "--processes", "2"]
    command += ["--dtype", dtype]
    assert main(command) == 0
    first = capsys.readouterr()
    page = Path(first.out.strip())
    assert page == out / "report" / "report.html"
    text = page.read_text(encoding="utf-8")
    for part in (
        "forced-gates",
        "gates-agreement-flops",
        "propagations-numbers",
        "verify-gains",
        "clock",
        "depths",
    ):
        assert f'id="tiny-mamba2-{part}"' in text
    assert "static dropping" in text and "margin" in text and 'class="heat"' in text
    assert str(tmp_path) not in text
    assert not [path for path in (out / "report").glob("*.json") if str(tmp_path) in path.read_text()]
    assert main(command) == 0
    again = capsys.readouterr()
    assert " done " in first.err and " done " not in again.err
    page.unlink()
    assert main(["report", str(out)]) == 0 and page.read_text(encoding="utf-8") == text


def test_two_do_not_work_in_one_folder(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other one's texts would be taken from under its jobs."""
    command = ["study", "tiny-mamba2", "--data", str(texts), "--out", str(tmp_path / "out"), "--quick"]
    with sole_writer(tmp_path / "out"):
        assert main(command) == 2
    assert "another process is working in" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())
