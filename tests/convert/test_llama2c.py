"""llama2.c's files: what comes in computes as in run.c, and goes out byte for byte."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from offramp.convert import llama2c
from offramp.convert.source import from_folder
from offramp.convert.write import write_folder
from offramp.errors import CheckpointError, OfframpError
from offramp.models.checkpoint import load_model
from tests.convert import runc

TOKENS = [1, 5, 9, 9, 30, 262, 7, 0, 100, 3, 3]


def header(**changes: int) -> list[int]:
    """runc's header with some of its numbers changed."""
    names = ("dim", "hidden", "layers", "heads", "kv_heads", "vocab", "positions")
    return [changes.get(name, value) for name, value in zip(names, runc.HEADER, strict=True)]


def written(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("tied", [True, False])
@torch.inference_mode()
def test_it_computes_what_run_c_computes(tied: bool, tmp_path: Path) -> None:
    file = written(tmp_path / "model.bin", runc.checkpoint(tied=tied))
    write_folder(llama2c.read(file), tmp_path / "model")
    ours = load_model(tmp_path / "model")(torch.tensor([TOKENS]))[0].double().numpy()
    theirs = runc.forward(runc.HEADER, tied, TOKENS)
    assert abs(ours - theirs).max() < 1e-4 * abs(theirs).max()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("sizes", [runc.HEADER, (8, 12, 1, 4, 4, 260, 5), (24, 20, 2, 4, 1, 261, 1)])
def test_out_again_byte_for_byte(sizes: Sequence[int], tied: bool, tmp_path: Path) -> None:
    raw = runc.checkpoint(sizes, tied)
    write_folder(llama2c.read(written(tmp_path / "model.bin", raw)), tmp_path / "model", max_shard=3000)
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    llama2c.write(from_folder(tmp_path / "model"), tmp_path / "again.bin")
    assert (tmp_path / "again.bin").read_bytes() == raw


@pytest.mark.parametrize("rows", [llama2c.ROPE_ROWS, 3])
def test_rotary_tables_are_made_where_there_are_none(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama2c, "ROPE_ROWS", rows)
    raw = runc.checkpoint()
    write_folder(llama2c.read(written(tmp_path / "model.bin", raw)), tmp_path / "model")
    (tmp_path / "model" / llama2c.ROPE_FILE).unlink()
    llama2c.write(from_folder(tmp_path / "model"), tmp_path / "again.bin")
    again = (tmp_path / "again.bin").read_bytes()
    positions, pairs = runc.HEADER[6], runc.HEADER[0] // runc.HEADER[3] // 2
    tables = torch.frombuffer(bytearray(again[-2 * positions * pairs * 4 :]), dtype=torch.float32)
    cos, sin = tables.view(2, positions, pairs)
    rates = torch.tensor([10000.0 ** (-i / pairs) for i in range(pairs)])
    assert torch.allclose(torch.atan2(sin, cos)[3], 3 * rates, atol=1e-5)
    assert again[: -tables.nbytes] == raw[: -tables.nbytes]


def test_pairs_and_halves_are_inverse() -> None:
    weight = torch.arange(24.0).view(12, 2)
    assert torch.equal(llama2c.to_pairs(llama2c.to_halves(weight, 2), 2), weight)
    assert llama2c.to_halves(weight, 2)[:6, 0].tolist() == [0, 4, 8, 2, 6, 10]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "0 bytes"),
        (b"12345", "5 bytes"),
        (b"24ka" + b"\0" * 300, "version 1 or 2"),
        (runc.checkpoint()[:-1], "not whole"),
        (runc.checkpoint() + b"\0", "not whole"),
        (struct.pack("<7i", *header(dim=0)), "dim is 0"),
        (struct.pack("<7i", *header(layers=-3)), "layers is -3"),
        (struct.pack("<7i", *header(layers=2000)), "layers is 2000"),
        (struct.pack("<7i", *header(vocab=0)), "vocab is 0"),
        (struct.pack("<7i", *header(vocab=-(1 << 31))), "vocab is 2147483648"),
        (struct.pack("<7i", *header(positions=1 << 30)), "positions is"),
        (struct.pack("<7i", *header(heads=3)), "even number"),
        (struct.pack("<7i", *header(heads=16)), "even number"),
        (struct.pack("<7i", *header(kv_heads=3)), "shared"),
        (struct.pack("<7i", *(1 << 20,) * 2, 1 << 10, 1 << 10, 1 << 10, 1 << 20, 1 << 20), "its header asks"),
    ],
)
def test_damaged_files(raw: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=said):
        llama2c.read(written(tmp_path / "model.bin", raw))


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a regular file"):
        llama2c.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "mistral"}, "only 'llama'"),
        ({"rms_norm_eps": 1e-6}, "norm_eps"),
        ({"rope_theta": 5e5, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, "rope"),
        ({"attention_bias": True}, "attention_bias"),
        ({"num_hidden_layers": 2}, "model.layers.2"),
        ({"tie_word_embeddings": False}, "lm_head"),
        ({"intermediate_size": 25}, "shape"),
    ],
)
def test_models_that_run_c_would_not_compute(change: dict[str, object], said: str, tmp_path: Path) -> None:
    write_folder(llama2c.read(written(tmp_path / "model.bin", runc.checkpoint())), tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(CheckpointError, match=said):
        llama2c.write(from_folder(tmp_path / "model"), tmp_path / "again.bin")
    assert not list(tmp_path.glob("*again*"))


def test_an_existing_file_stays(tmp_path: Path) -> None:
    file = written(tmp_path / "model.bin", runc.checkpoint())
    with pytest.raises(OfframpError, match="not replaced"):
        llama2c.write(llama2c.read(file), file)
    assert file.read_bytes() == runc.checkpoint()
