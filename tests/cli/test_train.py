"""`offramp train`: exits that `generate` finds; an interrupted run goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from offramp.exits.store import read_exits
from offramp.training import exits as exits_training
from offramp.training.loop import Outcome

QUICK = ("--steps", "2", "--tokens-per-step", "64", "--length", "32")
LINEAR = (*QUICK, "--gate", "linear")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("the quick brown fox jumps over the lazy dog\n" * 20)
    return file


def test_trained_exits_are_found_by_generate(run: Any, bare_checkpoint: Path, data: Path) -> None:
    result = run("train", bare_checkpoint, "--data", data, *LINEAR)
    assert result.code == 0, result.err
    assert "after 1" in result.out and "accuracy" in result.out
    assert "finished 2 steps" in result.err
    generated = run("generate", bare_checkpoint, "hello", "--max-tokens", "4")
    assert "left after block  1   2   3  of 4" in generated.err


@pytest.mark.parametrize("given", ["models/llama", "."])
def test_a_local_path_is_not_stored(
    run: Any, bare_checkpoint: Path, data: Path, given: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`models/llama` looks like a hub id."""
    (tmp_path / "models").mkdir()
    folder = bare_checkpoint.rename(tmp_path / "models" / "llama")
    monkeypatch.chdir(folder if given == "." else tmp_path)
    assert run("train", given, "--data", data, *LINEAR).code == 0
    assert read_exits(folder / "exits" / "linear")[1].revision == "llama"


def test_the_bridge_is_part_of_the_set_s_name(run: Any, bare_checkpoint: Path, data: Path) -> None:
    options = ("--bridge", "last_block", "--exits-at", "1,2")
    assert run("train", bare_checkpoint, "--data", data, *LINEAR, *options).code == 0
    assert (bare_checkpoint / "exits" / "linear-last_block" / "exits.json").is_file()


@pytest.mark.parametrize(
    "options",
    [
        ("--gate", "mlp", "--bridge", "lens", "--bridge-rank", "4"),
        ("--gate", "linear", "--bridge", "block", "--bridge-width", "8", "--bridge-mixer", "attention"),
        ("--gate", "mamba", "--bottleneck", "8", "--bridge", "block", "--share-trunk"),
    ],
)
def test_bridges_are_trained_and_used(
    run: Any, bare_checkpoint: Path, data: Path, options: tuple[str, ...]
) -> None:
    result = run("train", bare_checkpoint, "--data", data, *QUICK, "--exits-at", "2", *options)
    assert result.code == 0, result.err
    assert "agreement without bridge" in result.out and "kl without bridge" in result.out
    generated = run("generate", bare_checkpoint, "hello", "--max-tokens", "4", "--policy", "always")
    assert generated.code == 0 and "left after block  2  of 4" in generated.err
    bridge = options[options.index("--bridge") + 1]
    assert bridge in run("inspect", bare_checkpoint).out


def test_an_interrupted_run_says_how_to_go_on(
    run: Any, bare_checkpoint: Path, data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopped = Outcome(1, 2, "interrupted", tmp_path / "step-1")
    monkeypatch.setattr(exits_training, "run", lambda *_: stopped)
    result = run("train", bare_checkpoint, "--data", data, *LINEAR)
    assert (result.code, result.out) == (130, "")
    assert "the same command continues from" in result.err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--gate", "liner"], 2, "Did you mean 'linear'"),
        (["--bridge", "last"], 2, "last_block"),
        (["--label", "exakt"], 2, "Did you mean 'exact'"),
        (["--exits-at", "9"], 2, "9"),
        (["--steps", "0"], 2, "at least 1"),
        (["--lr", "nan"], 2, "learning rate of nan"),
        (["--lr", "-1"], 2, "learning rate of -1"),
        (["--seed", "9" * 30], 2, "seed of 999"),
        (["--bridge", "last_block", "--exits-at", "3"], 2, "saves nothing"),
        (["--bridge", "lens", "--bridge-width", "32"], 2, "'lens' has no width to set to 32: it reads rank"),
        (["--bridge", "block", "--bridge-mixer", "atention"], 2, "Did you mean 'attention'"),
        (["--bridge", "block", "--share-trunk", "--bridge-width", "8"], 2, "leave out --bridge-width"),
        (["--bridge", "block", "--share-trunk", "--gate", "linear"], 2, "no trunk that a bridge could share"),
        (["--bridge", "lens", "--share-trunk"], 2, "'lens' has no mixer"),
        (["--bridge", "lens", "--bridge-rank", "0"], 2, "bridge rank must be an integer from 1"),
        (["--bridge", "lens", "--label", "after_last_block"], 2, "which the bridge lens does not run"),
    ],
)
def test_impossible_exits(
    run: Any, bare_checkpoint: Path, data: Path, options: list[str], code: int, said: str
) -> None:
    result = run("train", bare_checkpoint, "--data", data, *options)
    assert result.code == code and said in result.err


def test_missing_data(run: Any, bare_checkpoint: Path, tmp_path: Path) -> None:
    result = run("train", bare_checkpoint, "--data", tmp_path / "none.txt", *QUICK)
    assert result.code == 1 and "does not exist" in result.err


def test_a_hub_model_needs_an_out_folder(run: Any, data: Path) -> None:
    result = run("train", "someone/model", "--data", data, *LINEAR)
    assert result.code == 2 and "--out" in result.err


def test_unknown_twin(run: Any, tmp_path: Path) -> None:
    result = run("pretrain", "tiny-transfomer", "--corpus", tmp_path, "--out", tmp_path / "out")
    assert result.code == 2 and "Did you mean 'tiny-transformer'" in result.err


def test_no_tokens_are_not_the_recipe_s(run: Any, tmp_path: Path) -> None:
    result = run("pretrain", "tiny-mamba2", "--corpus", tmp_path, "--out", tmp_path / "out", "--tokens", "0")
    assert result.code == 2 and "0 tokens in all" in result.err


def test_pretrain_names_what_the_corpus_lacks(run: Any, tmp_path: Path) -> None:
    result = run("pretrain", "tiny-mamba2", "--corpus", tmp_path, "--out", tmp_path / "out")
    assert result.code == 1 and "train.bin" in result.err
