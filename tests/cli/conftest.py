"""A checkpoint folder small enough to load in every test, and the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from offramp.cli import demonstration
from offramp.cli.app import main
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import build_exits
from offramp.exits.store import ExitsInfo, save_exits
from offramp.models.checkpoint import fingerprint, load_model, save_model
from offramp.models.families import family_for
from offramp.models.initial import init_weights
from offramp.zoo.prompts import Prompt

BLOCKS, CONTEXT = 4, 64


@dataclass(frozen=True)
class Result:
    """What one call of the command line gave."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line, in this process."""

    def call(*argv: object) -> Result:
        code = main([str(part) for part in argv])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of four blocks, a tokenizer of bytes, an exit set named linear. Only to be read."""
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder)
    write_exits(folder, "linear", "none", (1, 2))
    return folder


def write_exits(folder: Path, gate: str, bridge: str, after: tuple[int, ...]) -> None:
    """Random exits beside the checkpoint in `folder`, named as `offramp train` names them."""
    model = load_model(folder)
    config = ExitConfig(gate, bridge, after, model.config.hidden_size, 1e-5)
    torch.manual_seed(0)
    info = ExitsInfo(
        "llama", fingerprint(model), "exact", metrics={"after1": {"accuracy": 0.5, "auroc": None}}
    )
    name = gate if bridge == "none" else f"{gate}-{bridge}"
    save_exits(build_exits(config, BLOCKS), info, folder / "exits" / name)


@pytest.fixture
def twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one twin, random, with the exit sets and short prompts that the demo wants."""
    monkeypatch.setattr(demonstration, "TWINS", ["tiny-llama"])
    prompts = [Prompt("code", "def f():", None, "test"), Prompt("facts", "Who?", " nobody", "test")]
    monkeypatch.setattr(demonstration, "load_prompts", lambda: prompts)
    folder = tmp_path / "twins" / "tiny-llama"
    folder.mkdir(parents=True)
    write_checkpoint(folder)
    write_exits(folder, "linear", "last_block", (1, 2))
    write_exits(folder, "mamba", "none", (1, 2))
    return folder.parent


@pytest.fixture
def bare_checkpoint(tmp_path: Path) -> Path:
    """The same without exits, to write to."""
    folder = tmp_path / "bare"
    folder.mkdir()
    write_checkpoint(folder)
    return folder


def write_checkpoint(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    tokenizer.save(str(folder / "tokenizer.json"))
    raw = {
        "model_type": "llama",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": CONTEXT,
    }
    family = family_for("llama")
    save_model(init_weights(family.build(family.config_from(raw)), 0), folder)
