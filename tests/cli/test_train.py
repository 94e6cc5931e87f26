"""`offramp train`: exits that `generate` finds; an interrupted run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from offramp.cli import training
from offramp.exits.store import read_exits
from offramp.registry import names
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


def test_a_draft_vocabulary_is_counted_in_the_data(run: Any, bare_checkpoint: Path, data: Path) -> None:
    result = run("train", bare_checkpoint, "--data", data, *LINEAR, "--draft-vocabulary", "9")
    assert result.code == 0, result.err
    exits, _ = read_exits(bare_checkpoint / "exits" / "linear")
    assert exits.config.draft_vocabulary == 9
    assert all(item.short_list is not None and len(item.short_list.ids) == 9 for item in exits)
    mistaken = run(
        "train", bare_checkpoint, "--data", data, *LINEAR, "--draft-vocabulary", "9", "--propagation", "defer"
    )
    assert mistaken.code == 2 and "leave out --draft-vocabulary, or train for verify" in mistaken.err
    generated = run("generate", bare_checkpoint, "hello", "--max-tokens", "4", "--policy", "always")
    assert generated.code == 0, generated.err


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
        (["--recipe", "papertext"], 2, "Did you mean 'paper_text'"),
        (["--recipe", "linear", "--dropout", "0.5"], 2, "the recipe linear has no dropout that could be set"),
        (["--recipe", "layerskip", "--size", "small"], 2, "makes no gates that could be of a size"),
        (["--size", "small", "--bottleneck", "8"], 2, "leave out --bottleneck, or --size"),
        (["--gate", "linear", "--size", "small"], 2, "has but one size"),
        (["--propagation", "projekt"], 2, "Did you mean 'project'"),
        (["--optimizer", "sgd"], 2, "unknown optimizer 'sgd': one of adamw, schedulefree"),
    ],
)
def test_impossible_exits(
    run: Any, bare_checkpoint: Path, data: Path, options: list[str], code: int, said: str
) -> None:
    result = run("train", bare_checkpoint, "--data", data, *options)
    assert result.code == code and said in result.err


@pytest.mark.parametrize(
    ("name", "gate", "bridge"),
    [
        ("mamba-gate", "mamba", "none"),
        ("transformer_gate", "transformer", "none"),
        ("lens", "mamba", "lens"),
        ("drafter", "mamba", "block"),
        ("paper-code", "linear", "last_block"),
    ],
)
def test_a_recipe_by_its_name(
    run: Any, bare_checkpoint: Path, data: Path, name: str, gate: str, bridge: str
) -> None:
    result = run("train", bare_checkpoint, "--data", data, "--recipe", name, *QUICK)
    assert result.code == 0, result.err
    folder = bare_checkpoint / "exits" / name.replace("_", "-")
    exits, info = read_exits(folder)
    said = json.loads(result.err.partition("recipe ")[2].partition("\n")[0])
    assert (exits.config.gate, exits.config.bridge) == (gate, bridge) and info.data["recipe"] == said
    assert said["training"]["steps"] == 2
    assert f"{folder.name}: gates on held-out text" in " ".join(result.out.split())


def test_an_option_beside_a_recipe_changes_one_field(run: Any, bare_checkpoint: Path, data: Path) -> None:
    options = ("--recipe", "paper-text", "--gate", "linear", "--propagation", "project", "--label", "exact")
    assert run("train", bare_checkpoint, "--data", data, *options, *QUICK).code == 0
    exits, info = read_exits(bare_checkpoint / "exits" / "paper-text")
    assert (exits.config.gate, exits.config.bottleneck, exits.config.norm) == ("linear", None, False)
    assert (info.propagation, info.label, info.label_k) == ("project", "exact", 1)


def test_gates_of_one_size(run: Any, bare_checkpoint: Path, data: Path) -> None:
    counts = []
    for gate in ("mlp", "mamba"):
        options = ("--gate", gate, "--size", "small", "--exits-at", "2", *QUICK)
        assert run("train", bare_checkpoint, "--data", data, *options).code == 0
        [item] = read_exits(bare_checkpoint / "exits" / gate)[0]
        counts.append(sum(weight.numel() for weight in item.gate.parameters()))
    assert max(counts) <= 1.02 * min(counts)


def test_on_policy(run: Any, bare_checkpoint: Path, data: Path) -> None:
    options = ("--recipe", "on-policy", "--propagation", "defer", "--replies", "3", "--exits-at", "2", *QUICK)
    lines = data.with_suffix(".jsonl")
    lines.write_text("".join(json.dumps({"said": f"the fox number {i}"}) + "\n" for i in range(20)))
    result = run("train", bare_checkpoint, "--data", lines, "--field", "said", *options)
    assert result.code == 0, result.err
    assert "writing under defer: 4 of 4 replies" in result.err
    assert read_exits(bare_checkpoint / "exits" / "on-policy")[1].propagation == "defer"


def test_layerskip_makes_a_checkpoint(run: Any, bare_checkpoint: Path, data: Path, tmp_path: Path) -> None:
    options = ("--recipe", "layerskip", "--lora-rank", "2", "--dropout", "0.2", *QUICK)
    refused = run("train", bare_checkpoint, "--data", data, *options)
    assert refused.code == 2 and "makes a new checkpoint: say where with --out DIR" in refused.err
    result = run("train", bare_checkpoint, "--data", data, *options, "--out", tmp_path / "new")
    assert result.code == 0, result.err
    assert "every depth on held-out text" in result.out and "--exits untrained" in result.err
    leaving = ("--exits", "untrained", "--policy", "always", "--max-tokens", "4")
    generated = run("generate", tmp_path / "new", "hello", *leaving)
    assert generated.code == 0 and "left after block" in generated.err


@pytest.mark.parametrize("recipe", ["linear", "layerskip"])
def test_a_dry_run_leaves_nothing(
    run: Any, bare_checkpoint: Path, data: Path, tmp_path: Path, recipe: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    options = ("--recipe", recipe, "--dry-run", "--out", tmp_path / "out", *QUICK)
    result = run("train", bare_checkpoint, "--data", data, *options)
    assert result.code == 0 and "trainable parameters" in result.out, result.err
    assert sorted(tmp_path.rglob("*")) == before


def test_losses_are_tracked(
    run: Any, bare_checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    @contextmanager
    def fake(name: str, folder: Path, settings: Any, callback: Any) -> Iterator[Any]:
        seen.append((name, folder, settings["name"]))
        yield lambda progress: seen.append(progress.step)

    monkeypatch.setattr(training, "tracked", fake)
    assert run("train", bare_checkpoint, "--data", data, *LINEAR, "--track", "tensorboard").code == 0
    assert seen == [("tensorboard", Path("runs/linear"), "standard"), 2]


def test_help_names_every_recipe(run: Any) -> None:
    said = " ".join(run("train", "--help").out.replace("│", " ").split())
    assert "linear: Linear gates: the floor that every other gate must beat." in said
    assert all(f" {name.replace('_', '-')}: " in said for name in names("offramp.training.recipes"))


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
