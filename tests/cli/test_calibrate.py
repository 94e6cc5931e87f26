"""`offramp calibrate` and `generate --risk`: from texts to a certificate and what runs under it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import write_checkpoint, write_exits

SMALL = ("--max-tokens", 6, "--prompt-tokens", 6, "--steps", 2)
LOOSE = ("--risk", "0.9", "--confidence", "0.5")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "my.jsonl"
    lines = [{"body": f"{i} is the number of some text", "answer": f"{i}"} for i in range(30)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, texts: Path) -> Path:
    """A checkpoint that was calibrated at a risk that nearly everything keeps."""
    from offramp.cli.app import main

    folder = tmp_path_factory.mktemp("calibrated")
    write_checkpoint(folder)
    write_exits(folder, "linear", "none", (1, 2))
    options = ("--data", texts, "--field", "body", *SMALL, *LOOSE)
    assert main(["calibrate", *map(str, (folder, *options))]) == 0
    return folder


def test_the_result_lies_beside_the_exits(calibrated: Path) -> None:
    (path,) = (calibrated / "exits" / "linear" / "certificates").iterdir()
    assert path.name.startswith("agreement-0.9-defer-")
    found = json.loads(path.read_text())
    assert found["chosen"] > 0 and found["binding"]["propagation"] == "defer"


def test_tables_say_what_was_found(run: Any, calibrated: Path, texts: Path) -> None:
    """The same command again changes nothing, and asks the model for nothing it has said."""
    result = run("calibrate", calibrated, "--data", texts, "--field", "body", *SMALL, *LOOSE)
    assert result.code == 0 and "step 1 of" not in result.err and "written to" in result.err
    for words in (
        "exit after block 1: temperature",
        "agreement loss over",
        "<- kept",
        "certified on",
        "Void",
    ):
        assert words in " ".join(result.out.split())


def test_json_is_one_object(run: Any, calibrated: Path, texts: Path, tmp_path: Path) -> None:
    options = ("--data", texts, "--field", "body", *SMALL, *LOOSE, "--json", "--losses", tmp_path / "l.json")
    found = json.loads(run("calibrate", calibrated, *options).out)
    assert not found["never"] and len(found["gates"]) == 2 and found["certificate"]["risk"] == 0.9
    assert len(found["gates"][0]["calibrated"]["bins"]) == 10
    table = json.loads((tmp_path / "l.json").read_text())
    assert len(table["losses"]) == len(table["thresholds"]) == len(found["certificate"]["path"]) - 1
    assert len(table["losses"][0]) == found["certificate"]["documents"]


def test_generate_leaves_as_certified(run: Any, calibrated: Path) -> None:
    result = run("generate", calibrated, "text", "--risk", "0.9", "--confidence", "0.5", "--max-tokens", 6)
    assert result.code == 0 and "certified: agreement risk 0.9, confidence 0.5, defer" in result.err
    lower = run("generate", calibrated, "text", "--risk", "0.95", "--confidence", "0.4", "--max-tokens", 6)
    assert lower.out == result.out  # a promise that is stricter than what was asked for


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--risk", "0.9"), "no certificate covers this (there are: agreement 0.9 defer)"),
        (("--risk", "0.5", "--confidence", "0.5"), "offramp calibrate"),
        (
            ("--risk", "0.9", "--confidence", "0.5", "--max-tokens", 7),
            "max_tokens is 7, certified is 6",
        ),
        (
            ("--risk", "0.9", "--confidence", "0.5", "--temperature", "1", "--max-tokens", 6),
            "temperature is 1.0",
        ),
        (("--risk", "0.9", "--confidence", "0.5", "--propagation", "skip"), "no certificate"),
        (("--risk", "0.9", "--confidence", "0.5", "--metric", "f1"), "--metric f1"),
        (("--risk", "0.9", "--threshold", "0.5"), "leave out --threshold"),
        (("--propagation", "skip"), "skip changes the text"),
        (("--propagation", "defer", "--policy", "confidence"), "defer changes the text"),
    ],
)
def test_what_is_not_certified_is_refused(
    run: Any, calibrated: Path, options: tuple[object, ...], words: str
) -> None:
    result = run("generate", calibrated, "text", *options)
    assert result.code == 2 and words in result.err and not result.out


def test_what_needs_no_certificate_runs(run: Any, calibrated: Path) -> None:
    for options in (
        (),
        ("--propagation", "skip", "--threshold", "0.5"),
        ("--propagation", "skip", "--policy", "always"),
        ("--propagation", "skip", "--exits", "none"),
    ):
        assert run("generate", calibrated, "text", "--max-tokens", 3, *options).code == 0


def test_many_prompts_under_one_certificate(run: Any, calibrated: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [{"prompt": "text"}, {"prompt": "far too long a prompt"}, {"prompt": "ab", "temperature": 1}]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run(
        *("generate", calibrated, "--input", prompts, "--output", out, "--max-tokens", 6),
        *("--risk", "0.9", "--confidence", "0.5"),
    )
    said = [json.loads(line) for line in out.read_text().splitlines()]
    assert result.code == 1 and "certified" in result.err
    assert "text" in said[0] and "at most 6" in said[1]["error"] and "temperature" in said[2]["error"]


def test_never_is_said_and_kept(run: Any, bare_checkpoint: Path, texts: Path) -> None:
    write_exits(bare_checkpoint, "linear", "none", (1, 2))
    result = run("calibrate", bare_checkpoint, "--data", texts, "--field", "body", *SMALL, "--risk", "0.001")
    assert result.code == 1 and "never: on" in result.err and "nothing may leave" in result.err
    assert "<- kept" in result.out
    told = run("generate", bare_checkpoint, "text", "--risk", "0.001", "--max-tokens", 6, "--json")
    depths = [json.loads(line).get("depth") for line in told.out.splitlines()[:-1]]
    assert told.code == 0 and set(depths) == {4} and "nothing may leave" in told.err


def test_answers_are_read_beside_the_prompts(run: Any, bare_checkpoint: Path, texts: Path) -> None:
    write_exits(bare_checkpoint, "linear", "none", (1, 2))
    asked = ("--data", texts, "--field", "body", "--metric", "exact_match", "--max-tokens", 4, "--steps", 1)
    missing = run("calibrate", bare_checkpoint, *asked)
    assert missing.code == 2 and "--answer-field" in missing.err
    result = run("calibrate", bare_checkpoint, *asked, "--answer-field", "answer", *LOOSE)
    assert result.code == 0 and "exact_match loss over" in result.out


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--risk", "0"), 2, "risk is 0.0"),
        (("--propagation", "verify"), 2, "no risk to calibrate"),
        (("--propagation", "dfer"), 2, "Did you mean 'defer'"),
        (("--exits", "none"), 1, "no trained exits"),
        (("--field", "txt"), 1, 'no field "txt"'),
        (("--max-tokens", "99"), 2, "context"),
        (("--prompt-tokens", "-1"), 2, "--prompt-tokens is -1"),
        (("--split-seed", "-1"), 2, "--split-seed is -1"),
        (("--losses", "gone/losses.json"), 2, "there is no folder gone"),
        (("--max-documents", "1"), 1, "empty"),
        (("--teacher-forced", "--propagation", "skip"), 2, "teacher-forced"),
    ],
)
def test_mistakes_are_named(
    run: Any, calibrated: Path, texts: Path, options: tuple[str, ...], code: int, words: str
) -> None:
    field = () if "--field" in options else ("--field", "body")
    result = run("calibrate", calibrated, "--data", texts, *field, *options)
    assert result.code == code and words in result.err and not result.out


def test_a_second_calibration_is_refused(run: Any, calibrated: Path, texts: Path) -> None:
    options = ("--data", texts, "--field", "body", *SMALL, *LOOSE, "--split-seed", 1)
    result = run("calibrate", calibrated, *options)
    assert result.code == 1 and "voids the guarantee" in result.err and "--replace" in result.err
