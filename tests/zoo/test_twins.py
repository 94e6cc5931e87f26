"""The twins are of one size, and whatever pretrains them leaves a checkpoint that loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from offramp.errors import UnknownName
from offramp.models.checkpoint import load_model
from offramp.text import Text
from offramp.training.loop import Limits
from offramp.training.pretrain import Phase, PretrainConfig
from offramp.zoo.tokenizer import END_OF_TEXT_ID, save_tokenizer, train_tokenizer
from offramp.zoo.twins import PARAMETERS, TWINS, build, run
from tests.training.tiny import write_corpus


@pytest.mark.parametrize("twin", TWINS)
def test_size_and_depth(twin: str) -> None:
    model = build(twin)
    assert abs(sum(p.numel() for p in model.parameters()) / PARAMETERS - 1) < 0.05
    assert len(model.blocks) >= 12 and model.config.tie_embeddings


def test_unknown_twin() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'tiny-mamba2'"):
        build("tiny-mamba")


@pytest.mark.parametrize("twin", TWINS)
def test_run_leaves_a_bf16_checkpoint(twin: str, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    save_tokenizer(train_tokenizer(["a text", "another text"], 300), corpus)
    config = PretrainConfig(tokens=128, tokens_per_step=64, phases=(Phase(1.0, 0.5, 32),), warmup_steps=1)
    first = run(twin, corpus, tmp_path / "out", config=config, limits=Limits(max_seconds=0))
    assert not first.finished and not (tmp_path / "out" / "model").exists()
    assert run(twin, corpus, tmp_path / "out", config=config).finished
    model = load_model(tmp_path / "out" / "model", dtype=torch.bfloat16)
    assert sorted(path.name for path in (tmp_path / "out" / "model").iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert json.loads((tmp_path / "out" / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    ids = Text.load(tmp_path / "out" / "model").encode("a text")
    assert ids[0] == END_OF_TEXT_ID and END_OF_TEXT_ID not in ids[1:]  # as every training document began
    assert model(torch.tensor([ids])).isfinite().all()
