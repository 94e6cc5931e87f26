"""Checkpoints that lay out their tensors otherwise than we do, and those of the model without its head."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from offramp.errors import CheckpointError
from offramp.models.checkpoint import load_model, save_model


@pytest.mark.parametrize("name", ["gpt2", "gpt2-untied", "gpt_neox", "gpt_neox-sequential"])
def test_saved_tensors_are_those_that_were_loaded(name: str, tmp_path: Path) -> None:
    tiny.make(name, tmp_path / "theirs")
    save_model(load_model(tmp_path / "theirs"), tmp_path / "ours")
    ours, theirs = (load_file(tmp_path / folder / "model.safetensors") for folder in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox"])
def test_a_fused_tensor_of_another_shape(name: str, tmp_path: Path) -> None:
    tiny.make(name, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    fused = min(key for key in tensors if "c_attn.weight" in key or "query_key_value.weight" in key)
    save_file(tensors | {fused: tensors[fused].T.contiguous()}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"shape \[(96, 32|64, 192)\]"):
        load_model(tmp_path)


def test_the_first_gpt2_has_no_prefix_and_stores_its_masks(tmp_path: Path) -> None:
    tiny.make("gpt2", tmp_path)
    expected, path = load_model(tmp_path)(tiny.tokens(1, 9)), tmp_path / "model.safetensors"
    bare = {key.removeprefix("transformer."): tensor for key, tensor in load_file(path).items()}
    save_file(bare | {"h.0.attn.bias": torch.ones(1, 1, 128, 128)}, path)
    assert torch.equal(load_model(tmp_path)(tiny.tokens(1, 9)), expected)
