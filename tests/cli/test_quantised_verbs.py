"""`--dtype int8` and `int4` on the command line, folders of quantised weights, and what `inspect --quality` says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from offramp.cli.options import Where
from offramp.errors import UsageError
from tests.cli.conftest import write_checkpoint, write_exits

SHORT = ("--max-tokens", "4")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """The checkpoint, converted."""
    from offramp.cli.app import main

    folder = tmp_path_factory.mktemp("converted") / "small"
    assert main(["convert", str(checkpoint), str(folder), "--dtype", "int8"]) == 0
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": f"text number {i} of some"}) + "\n" for i in range(9)))
    return file


def generated(run: Any, model: Path, *options: str) -> list[dict[str, Any]]:
    result = run("generate", model, "hello", *SHORT, "--json", *options)
    assert result.code == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


def told(lines: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    return [(line["token"], line["logprob"]) for line in lines if "logprob" in line]


def test_quantised_at_load_or_before_says_the_same(run: Any, checkpoint: Path, small: Path) -> None:
    """The exits of the original decide there too."""
    at_load, before = generated(run, checkpoint, "--dtype", "int8"), generated(run, small)
    assert told(at_load) == told(before) != told(generated(run, checkpoint))
    assert told(generated(run, small, "--dtype", "int8")) == told(before)
    assert len(told(before)) == 4 and any(line.get("depth") in (1, 2) for line in before)


def test_a_converted_folder_is_described(run: Any, checkpoint: Path, small: Path) -> None:
    whole, found = (json.loads(run("inspect", model, "--json").out) for model in (checkpoint, small))
    assert (whole["dtype"], found["dtype"]) == ("float32", "int8")
    assert found["parameters"] == whole["parameters"]
    assert sum(p["bytes"] for p in found["parts"]) < sum(p["bytes"] for p in whole["parts"])
    assert found["exits"][0]["problem"] == ""
    assert whole["left_out"] == [] and len(found["left_out"]) > 1
    assert "stayed float32" in run("inspect", small).out


@pytest.mark.parametrize(
    "words, code, said",
    [
        (("generate", "{small}", "hi", "--dtype", "int4"), 1, "holds int8 weights: load them as they are"),
        (("generate", "{small}", "hi", "--dtype", "bf16"), 1, "holds int8 weights: load them as they are"),
        (("generate", "{whole}", "hi", "--dtype", "int3"), 2, "int3"),
        (("convert", "{small}", "{out}", "--dtype", "bf16"), 1, "int8 weights, which only run"),
        (("convert", "{small}", "{out}", "--dtype", "int4"), 1, "int8 weights, which only run"),
        (("train", "{whole}", "--data", "{texts}", "--dtype", "int8"), 2, "train with f32 or bf16"),
        (("study", "{whole}", "--out", "{out}", "--dtype", "int4"), 2, "train with f32 or bf16"),
        (("plan", "{whole}", "--agreement", "0.9", "--device-bandwidth", "1e12", "--device-flops", "1e14")
         + ("--dtype", "int8"), 2, "leave the device's figures out"),
        (("inspect", "{small}", "--quality"), 1, "name that one"),
        (("inspect", "{whole}", "--data", "{texts}"), 2, "give both, or neither"),
    ],
)  # fmt: skip
def test_what_cannot_be(
    run: Any,
    checkpoint: Path,
    small: Path,
    texts: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    places = {"whole": checkpoint, "small": small, "texts": texts, "out": tmp_path / "out"}
    result = run(*(word.format(**places) for word in words))
    assert (result.code, said in " ".join(result.err.split())) == (code, True), result.err


def test_quality_of_every_format(run: Any, checkpoint: Path, texts: Path) -> None:
    result = run("inspect", checkpoint, "--quality", "--data", texts, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert (found["texts"], found["tokens"]) == (9, found["bytes"] - 9)  # bytes, of which the first are given
    assert [line["format"] for line in found["formats"]] == ["f32", "bf16", "int8", "int4"]
    whole, *others = found["formats"]
    assert whole["agreement"] == 1 and all(0.5 < line["agreement"] <= 1 for line in others)
    sizes = [line["weight_bytes"] for line in found["formats"]]
    assert sizes[0] == 2 * sizes[1] and sizes[0] > sizes[2] > sizes[3]
    assert all(line["bits_per_byte"] == pytest.approx(whole["bits_per_byte"], rel=0.02) for line in others)


def test_quality_of_the_prompts_that_come_along(run: Any, checkpoint: Path) -> None:
    result = run("inspect", checkpoint, "--quality")
    assert result.code == 0 and "bits per byte" in result.out and "12 texts" in result.out


def test_a_certificate_is_for_its_format(run: Any, tmp_path: Path, texts: Path) -> None:
    """What float32 was calibrated for int8 is refused; calibrated itself, it is certified."""
    (tmp_path / "model").mkdir()
    write_checkpoint(tmp_path / "model")
    write_exits(tmp_path / "model", "linear", "none", (1, 2))
    lines = [{"text": f"{i} is the number of some text"} for i in range(30)]
    texts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    promise = ("--risk", "0.9", "--confidence", "0.5")
    asked = ("--data", texts, "--max-tokens", "6", "--prompt-tokens", "6", "--steps", "2", *promise)
    assert run("calibrate", tmp_path / "model", *asked).code == 0
    generate = ("generate", tmp_path / "model", "5 is", "--max-tokens", "6", *promise)
    assert run(*generate).code == 0
    refused = run(*generate, "--dtype", "int8")
    assert refused.code == 2 and "number format is int8, certified is float32" in " ".join(
        refused.err.split()
    )
    assert run("calibrate", tmp_path / "model", *asked, "--dtype", "int8").code == 0
    assert run(*generate, "--dtype", "int8").code == 0 and run(*generate).code == 0


def test_evaluated_and_many_prompts(run: Any, checkpoint: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "hello"}\n{"prompt": "there"}\n')
    files = ("--input", prompts, "--output", tmp_path / "replies.jsonl")
    assert run("generate", checkpoint, *files, *SHORT, "--dtype", "int4").code == 0
    other = run("generate", checkpoint, *files, *SHORT)
    assert other.code != 0, "other settings do not go on in the same file"


def test_only_floats_are_trained() -> None:
    for dtype in ("f32", "bf16"):
        Where(dtype=dtype).check_trains()
    with pytest.raises(UsageError, match="runs with int4"):
        Where(dtype="int4").check_trains()
