"""Folders of quantised weights: what loading the original quantised would give, written a tensor at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from offramp.convert.depth import truncate
from offramp.convert.dtypes import cast
from offramp.convert.source import Source, from_folder
from offramp.convert.write import write_folder
from offramp.errors import CheckpointError
from offramp.models.checkpoint import fingerprint, load_model
from offramp.models.fingerprint import weights_digest
from offramp.models.quantised import Bits
from tests.models import tiny

FAMILIES = ("llama-tied", "gemma", "gpt2", "gpt_neox", "bamba", "mamba", "mamba2-8-groups")


@pytest.mark.parametrize("bits", Bits)
@pytest.mark.parametrize("name", FAMILIES)
def test_converted_and_loaded_is_loaded_and_quantised(name: str, bits: Bits, tmp_path: Path) -> None:
    """Also where one stored tensor holds several of our matrices, or a matrix turned."""
    tiny.make(name, tmp_path / "whole")
    write_folder(cast(from_folder(tmp_path / "whole"), bits.value), tmp_path / "small", max_shard=4000)
    one, other = load_model(tmp_path / "small"), load_model(tmp_path / "whole", dtype=bits)
    assert weights_digest(one) == weights_digest(other)
    assert (fingerprint(one), one.origin) == (fingerprint(other), other.origin)
    assert len(list((tmp_path / "small").glob("*.safetensors"))) > 1


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    tiny.make("llama-tied", tmp_path / "llama")
    return tmp_path / "llama"


def quantised(folder: Path) -> Source:
    return cast(from_folder(folder), "int8")


def test_exits_and_tokenizer_stay(llama: Path, tmp_path: Path) -> None:
    (llama / "exits" / "mine").mkdir(parents=True)
    (llama / "exits" / "mine" / "exits.json").write_text("{}")
    write_folder(quantised(llama), tmp_path / "out")
    assert (tmp_path / "out" / "exits" / "mine" / "exits.json").exists()


def test_a_quantised_folder_only_runs(llama: Path, tmp_path: Path) -> None:
    write_folder(quantised(llama), tmp_path / "out")
    with pytest.raises(CheckpointError, match="int8 weights, which only run: use the checkpoint"):
        from_folder(tmp_path / "out")


def test_after_other_conversions(llama: Path, tmp_path: Path) -> None:
    write_folder(cast(truncate(from_folder(llama), 1), "int4"), tmp_path / "out")
    write_folder(truncate(from_folder(llama), 1), tmp_path / "cut")
    assert weights_digest(load_model(tmp_path / "out")) == weights_digest(
        load_model(tmp_path / "cut", dtype=Bits.INT4)
    )


def changed(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Tensors added, replaced or (None) taken away."""
    found = load_file(folder / "model.safetensors") | tensors
    save_file(
        {name: tensor for name, tensor in found.items() if tensor is not None},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


NORM, HEAD = "model.norm.weight", "lm_head.weight"


@pytest.mark.parametrize(
    "name, tensor, said",
    [
        (NORM, None, f"missing in the checkpoint: {NORM}"),
        ("strange", torch.ones(2), "unused in the checkpoint: strange"),
        (NORM, torch.ones(3), "another shape"),
        (HEAD, torch.ones(61, 32), "the stored head differs"),
    ],
)
def test_what_loading_would_refuse(llama: Path, name: str, tensor: torch.Tensor | None, said: str) -> None:
    changed(llama, **{name: tensor})
    with pytest.raises(CheckpointError, match=said):
        quantised(llama)


def test_a_stored_copy_of_the_head_is_dropped(llama: Path, tmp_path: Path) -> None:
    changed(llama, **{HEAD: load_file(llama / "model.safetensors")["model.embed_tokens.weight"].clone()})
    write_folder(quantised(llama), tmp_path / "out")
    assert load_model(tmp_path / "out").origin == fingerprint(load_model(llama))


def test_config_says_what_was_done(llama: Path, tmp_path: Path) -> None:
    write_folder(quantised(llama), tmp_path / "out")
    before, after = (json.loads((at / "config.json").read_text()) for at in (llama, tmp_path / "out"))
    said = after.pop("quantization_config")
    assert after == before
    assert said == {"quant_method": "offramp", "format": "int8", "origin": fingerprint(load_model(llama))}
