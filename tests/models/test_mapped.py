"""Weights that are stored as they are wanted stay in the file's pages: loading makes no second copy of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from offramp.engine.load import DTYPES
from offramp.engine.resident import Resident, resident
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import build_exits
from offramp.exits.store import ExitsInfo, save_exits
from offramp.models.checkpoint import fingerprint, save_model
from offramp.models.families import family_for
from offramp.models.initial import init_weights
from offramp.models.tensors import INDEX, SINGLE, all_finite, write_tensors

LLAMA = {
    "model_type": "llama",
    "vocab_size": 20000,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GROWTH = """
import json, sys
import torch
from offramp.engine.engine import Engine
from offramp.engine.load import load
from offramp.engine.request import Request
from offramp.engine.load import DTYPES
from offramp.engine.resident import Resident, resident

before = resident()
checkpoint = load(sys.argv[1], dtype=sys.argv[2])
loaded = resident()
engine = Engine(checkpoint.model, checkpoint.exits, max_len=32)
assert len(engine.generate(Request(prompt=(1, 2, 3), max_tokens=4)).tokens) == 4
ran = resident()
print(json.dumps([[after - then for after, then in zip(vars(now).values(), vars(before).values())]
                  for now in (loaded, ran)]))
"""

needs_status = pytest.mark.skipif(resident() is None, reason="the system does not tell in /proc")


def checkpoint(folder: Path, dtype: torch.dtype, tied: bool = False, shards: int = 1) -> int:
    """Random weights, with an exit; the bytes of the model's tensors."""
    family = family_for("llama")
    config = family.config_from(LLAMA | {"tie_word_embeddings": tied})
    model = init_weights(family.build(config), 0).to(dtype)
    save_model(model, folder)
    exits = build_exits(ExitConfig("linear", "none", (2,), 512, 1e-5), 4).to(dtype)
    save_exits(exits, ExitsInfo("llama", fingerprint(model), "exact"), folder / "exits")
    size = (folder / SINGLE).stat().st_size
    if shards > 1:
        split(folder, shards)
    return size


def split(folder: Path, shards: int) -> None:
    """The same tensors in several files with an index."""
    tensors = load_file(folder / SINGLE)
    index = {name: f"model-{i % shards}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(index.values()):
        write_tensors({name: tensors[name] for name in tensors if index[name] == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"weight_map": index}))
    (folder / SINGLE).unlink()


@needs_status
@pytest.mark.parametrize(
    ("dtype", "tied", "shards"), [("bf16", True, 1), ("f32", False, 3)], ids=["one file, tied", "shards"]
)
def test_loading_makes_no_second_copy(tmp_path: Path, dtype: str, tied: bool, shards: int) -> None:
    size = checkpoint(tmp_path, DTYPES[dtype], tied, shards)
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "OFFRAMP_THREADS": "1"}
    command = [sys.executable, "-c", GROWTH, str(tmp_path), dtype]
    done = subprocess.run(command, capture_output=True, text=True, env=settings)
    assert done.returncode == 0, done.stderr
    loaded, ran = (Resident(*growth) for growth in json.loads(done.stdout))
    assert loaded.mapped > 0.9 * size, "every page was looked at"
    assert loaded.own < size / 8, "weights were copied"
    assert loaded.peak < 1.25 * size, "something as large as weights was made on the way"
    assert ran.own < size / 2, "what runs the model copies its weights"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_one_value_that_is_not_finite_is_found(dtype: torch.dtype) -> None:
    weight = torch.linspace(-3, 3, 1000).to(dtype).reshape(10, 100)
    assert all_finite(weight) and all_finite(weight[:0])
    for place in (0, 555, 999):
        for bad in (float("nan"), float("inf"), -float("inf")):
            spoilt = weight.clone()
            spoilt.view(-1)[place] = bad
            assert not all_finite(spoilt)
