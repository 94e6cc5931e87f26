"""`offramp plan`: the verdict first, then tables that fit; or JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from offramp.forecast import here, turns
from offramp.models.checkpoint import load_model, save_model

DEVICE = ("--device-bandwidth", "80GB/s", "--device-flops", "1T")
QUICK = ("--prompts", "6", "--new-tokens", "8", "--prompt-tokens", "8", "--batches", "1,2")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (turns, here):
        monkeypatch.setattr(module, "REPEATS", 1)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.jsonl"
    lines = [
        json.dumps({"id": i, "body": f"{i} is a number, and {i + 1} comes after it."}) for i in range(12)
    ]
    file.write_text("\n".join(lines))
    return file


@pytest.fixture
def shape(checkpoint: Path, tmp_path: Path) -> Path:
    """config.json alone."""
    folder = tmp_path / "shape"
    folder.mkdir()
    shutil.copy(checkpoint / "config.json", folder)
    return folder


@pytest.fixture
def stranger(bare_checkpoint: Path) -> Path:
    """The same with blocks that each turn everything over: exits agree by chance alone."""
    model = load_model(bare_checkpoint)
    torch.manual_seed(0)
    for weight in model.blocks.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=2.0)
    save_model(model, bare_checkpoint)
    return bare_checkpoint


def test_a_random_model_is_not_worth_it(run: Any, stranger: Path, texts: Path) -> None:
    """Said in words, with the reason. The device is described: a verdict must not hang on a busy machine's clock."""
    asked = ("plan", stranger, "--data", texts, "--field", "body", "--given-text", *QUICK)
    result = run(*asked, *DEVICE)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].startswith("not worth it here: verify is expected to give")
    assert "Why: " in result.out
    assert "6 prompts" in result.out and max(map(len, lines)) <= 80


def test_measured_here(run: Any, stranger: Path, texts: Path) -> None:
    result = run("plan", stranger, "--data", texts, "--field", "body", "--given-text", *QUICK)
    assert result.code == 0 and "on this machine" in " ".join(result.out.split())
    assert "training mamba gates after 1, 2, 3 on this machine: 300 steps" in result.out


def test_a_model_that_says_nothing(run: Any, stranger: Path, texts: Path) -> None:
    """Its logits are too large to be numbers."""
    model = load_model(stranger)
    torch.nn.init.constant_(model.head.get_parameter("weight"), 3e38)
    save_model(model, stranger)
    result = run("plan", stranger, "--data", texts, "--field", "body", *QUICK)
    assert result.code == 1 and "says something after 0 of 6 prompts" in result.err
    result = run("plan", stranger, "--agreement", "0.5", *QUICK)
    assert result.code == 2 and "are its weights numbers?" in result.err


def test_as_json(run: Any, checkpoint: Path, texts: Path) -> None:
    found = json.loads(
        run("plan", checkpoint, "--data", texts, "--field", "body", *QUICK, *DEVICE, "--json").out
    )
    seen, facts = found["forecast"], found["facts"]
    assert (facts["blocks"], facts["prompts"], facts["described"]) == (4, 6, True)
    assert [(item["after"], item["bridge"]) for item in seen["exits"]] == [
        (1, "none"),
        (1, "last_block"),
        (2, "none"),
        (2, "last_block"),
        (3, "none"),
    ]
    for item in seen["exits"]:
        share = item["agreement"]
        assert 0 <= share["low"] <= share["value"] <= share["high"] <= 1
    aboves = [item["above"] for item in seen["exits"] if item["bridge"] == "none"]
    assert aboves == sorted(aboves, reverse=True)
    assert {item["propagation"] for item in seen["outlooks"]} >= {"verify", "defer", "project", "skip"}
    assert [item["rows"] for item in seen["passes"]] == [1, 2]
    assert seen["passes"][0]["timings"]["deep"]["points"]
    assert found["training"]["steps"] == 300 and found["training"]["seconds"] > 0


def test_given_text_is_not_continued(run: Any, checkpoint: Path, texts: Path) -> None:
    options = ("--data", texts, "--field", "body", "--given-text", *QUICK, *DEVICE, "--json")
    assert json.loads(run("plan", checkpoint, *options).out)["facts"]["tokens"] == 6 * 7


def test_no_weights_are_needed_for_shapes(run: Any, shape: Path) -> None:
    result = run("plan", shape, "--agreement", "0.2,0.9", *DEVICE, "--batches", "1,4", "--prices")
    assert result.code == 0, result.err
    assert "that agrees in 90%" in result.out and "after 1, agreement 0.20" in result.out
    assert "gate mamba" in result.out and "training" not in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_prices_alone(run: Any, checkpoint: Path) -> None:
    found = json.loads(run("plan", checkpoint, "--prices", "--json").out)
    assert found["forecast"] is None and found["training"] is None
    assert {"block", "head", "bridge lens"} < {item["name"] for item in found["prices"]}
    assert all(item["microseconds"] > 0 for item in found["prices"])


def test_units_are_powers_of_a_thousand(run: Any, shape: Path) -> None:
    said = [
        json.loads(
            run(
                "plan",
                shape,
                "--agreement",
                "0.5",
                "--device-bandwidth",
                rate,
                "--device-flops",
                flops,
                "--json",
            ).out
        )
        for rate, flops in (("3.35TB/s", "990T"), ("3350 GB/s", "990TFLOPS"), ("3350e9", "0.99P"))
    ]
    assert said[0]["forecast"] == said[1]["forecast"] == said[2]["forecast"]
    assert said[0]["facts"]["machine"] == "a device of 3.35e+12 bytes/s and 9.9e+14 operations/s"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--data FILE; or, to try numbers, --agreement"),
        (("--data", "x.jsonl", "--agreement", "0.5"), "give one of the two"),
        (("--agreement", "1.5"), "--agreement is 1.5; it must be from 0 to 1"),
        (("--agreement", ""), "takes 1 to 16 numbers"),
        (("--agreement", "0.5", "--device-flops", "1T"), "both --device-bandwidth"),
        (("--agreement", "0.5", "--device-flops", "fast", "--device-bandwidth", "1G"), "3350GB/s"),
        (("--agreement", "0.5", "--batches", "0"), "--batches is 0"),
        (("--agreement", "0.5", "--batches", ",".join(map(str, range(1, 20)))), "takes 1 to 16 numbers"),
        (("--agreement", "0.5", "--gate-recall", "2"), "--gate-recall is 2.0"),
        (("--agreement", "0.5", "--gate", "mambo", *DEVICE), "Did you mean 'mamba'"),
        (("--agreement", "0.5", "--exits-at", "4", *DEVICE), "block numbers in ascending order"),
        (("--data", "none.jsonl"), "none.jsonl"),
        (("--prompts", "1", "--data", "x"), "--prompts is 1"),
    ],
)
def test_what_is_wrong_is_said(run: Any, checkpoint: Path, options: tuple[str, ...], said: str) -> None:
    result = run("plan", checkpoint, *options)
    assert result.code in (1, 2) and not result.out and said in " ".join(result.err.split())


def test_a_model_without_a_tokenizer_cannot_read(
    run: Any, checkpoint: Path, texts: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mute"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(checkpoint / name, folder)
    result = run("plan", folder, "--data", texts, "--field", "body")
    assert result.code == 1 and "has no tokenizer.json, so it cannot read" in result.err


def test_too_little_text(run: Any, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"text": "x y"}')
    result = run("plan", checkpoint, "--data", tmp_path / "one.jsonl")
    assert result.code == 1 and "at least 2, better 50" in result.err
