"""Quantised weights in a bench: ours reads fewer bytes a token, and other engines run in the format that is nearest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from offramp.bench.contender import Job
from offramp.bench.ours import Ours
from offramp.bench.random_models import SHAPES, write_random

TINY = dict(
    model_type="llama", vocab_size=96, hidden_size=64, intermediate_size=96, max_position_embeddings=512
)
TINY |= dict(num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    folder = tmp_path / "model"
    folder.mkdir()
    monkeypatch.setitem(SHAPES, "tiny", TINY)
    write_random("tiny", folder, torch.bfloat16, gate="linear")
    return Job("full", folder, tmp_path, tokens=6, max_len=64, threads=1)


@pytest.mark.parametrize("engine", ["full", "verify"])
def test_fewer_bytes_a_token(job: Job, engine: str) -> None:
    read = {}
    for dtype in ("f32", "bf16", "int8", "int4"):
        turn = Ours(replace(job, engine=engine, dtype=dtype)).run([(5, 6, 7, 8)])
        assert len(turn.tokens[0]) >= 7 and turn.weight_bytes is not None
        read[dtype] = turn.weight_bytes
    if engine == "full":
        assert read["f32"] > 1.9 * read["bf16"] > 3 * read["int8"] > 3.2 * read["int4"]
