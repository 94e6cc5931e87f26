"""GGUF files: read back as the format says, with the layouts that llama.cpp expects."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from offramp.bench.gguf.attention_models import in_pairs
from offramp.bench.gguf.families import write_checkpoint
from offramp.bench.gguf.file import ALIGNMENT
from offramp.bench.gguf.kinds import Kind, encoded
from offramp.errors import CheckpointError
from offramp.models.base import Model
from offramp.models.checkpoint import load_model, save_model
from offramp.models.families import family_for
from offramp.models.initial import init_weights

COMMON = dict(vocab_size=40, hidden_size=32, num_hidden_layers=2)
HEADS = dict(intermediate_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=8)
RAW: dict[str, dict[str, Any]] = {
    "llama": COMMON | HEADS,
    "mistral": COMMON | HEADS | dict(sliding_window=None),
    "qwen2": COMMON | HEADS | dict(tie_word_embeddings=True),
    "qwen3": COMMON | HEADS,
    "mamba": COMMON | dict(state_size=4),
    "mamba2": COMMON | dict(state_size=8, num_heads=8, head_dim=8, n_groups=2),
    "gpt2": COMMON | dict(n_embd=32, n_layer=2, n_head=4),
}


def checkpoint(name: str, folder: Path, **other: Any) -> Model:
    family = family_for(name)
    model = init_weights(family.build(family.config_from({"model_type": name} | RAW[name] | other)), 0)
    save_model(model, folder)
    return load_model(folder)


class File:
    """facts, and by name the kind, shape and bytes of tensors: as docs/gguf.md has it."""

    def __init__(self, path: Path) -> None:
        self.raw, self.at = path.read_bytes(), 0
        magic, version, tensors, facts = self.take("<4sIQQ")
        assert (magic, version) == (b"GGUF", 3)
        self.facts = {self.text(): self.value() for _ in range(facts)}
        places = [self.place() for _ in range(tensors)]
        start = -(-self.at // ALIGNMENT) * ALIGNMENT
        ends = [*(start + at for *_, at in places[1:]), len(self.raw)]
        self.tensors = {
            name: (kind, shape, self.raw[start + at : end])
            for (name, shape, kind, at), end in zip(places, ends, strict=True)
        }
        assert all(at % ALIGNMENT == 0 for *_, at in places)

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(form, self.raw, self.at)
        self.at += struct.calcsize(form)
        return found

    def text(self) -> str:
        (size,) = self.take("<Q")
        self.at += size
        return self.raw[self.at - size : self.at].decode()

    def value(self) -> Any:
        (kind,) = self.take("<I")
        return self.text() if kind == 8 else self.take({4: "<I", 6: "<f", 7: "<?"}[kind])[0]

    def place(self) -> tuple[str, tuple[int, ...], Kind, int]:
        name = self.text()
        (dims,) = self.take("<I")
        shape = self.take(f"<{dims}Q")[::-1]
        kind, at = self.take("<IQ")
        return name, shape, Kind(kind), at

    def numbers(self, name: str) -> Tensor:
        kind, shape, raw = self.tensors[name]
        count = int(np.prod(shape))
        if kind is Kind.Q8_0:
            blocks = np.frombuffer(raw, [("d", "<f2"), ("q", "i1", 32)], count // 32)
            values = blocks["d"].astype(np.float32)[:, None] * blocks["q"]
            return torch.tensor(values).reshape(shape)
        dtype = {Kind.F32: torch.float32, Kind.F16: torch.float16, Kind.BF16: torch.bfloat16}[kind]
        return torch.frombuffer(bytearray(raw), dtype=dtype, count=count).reshape(shape).float()


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("name", [name for name in RAW if name != "gpt2"])
def test_every_weight_is_in_the_file_once(name: str, kind: Kind, tmp_path: Path) -> None:
    model = checkpoint(name, tmp_path)
    read = write_checkpoint(tmp_path, tmp_path / "model.gguf", kind, max_len=100)
    file = File(tmp_path / "model.gguf")
    weights = sum(weight.numel() for weight in model.parameters())
    assert sum(int(np.prod(shape)) for _, shape, _ in file.tensors.values()) == weights
    assert file.facts["general.architecture"] == {"mistral": "llama"}.get(name, name)
    assert file.facts["tokenizer.ggml.model"] == "none"
    whole = sum(len(raw) for *_, raw in file.tensors.values())
    embedding = len(file.tensors["token_embd.weight"][2]) if "output.weight" in file.tensors else 0
    assert read <= whole - embedding < read + ALIGNMENT * len(file.tensors)
    tolerance = {Kind.F32: 0.0, Kind.F16: 1e-3, Kind.BF16: 1e-2, Kind.Q8_0: 1e-2}[kind]
    torch.testing.assert_close(
        file.numbers("token_embd.weight"), model.embed.weight.data, rtol=tolerance, atol=tolerance * 0.1
    )


def test_vectors_convolutions_and_decays_are_float32(tmp_path: Path) -> None:
    model = checkpoint("mamba2", tmp_path)
    write_checkpoint(tmp_path, tmp_path / "model.gguf", Kind.Q8_0, max_len=100)
    file = File(tmp_path / "model.gguf")
    kinds = {name: kind for name, (kind, _, _) in file.tensors.items()}
    shapes = {name: shape for name, (_, shape, _) in file.tensors.items()}
    plain = {name for name, kind in kinds.items() if kind is Kind.F32}
    small = ("attn_norm.weight", "ssm_a", "ssm_d", "ssm_conv1d.weight", "ssm_conv1d.bias", "ssm_dt.bias")
    names = {f"blk.{i}.{name}" for i in range(2) for name in (*small, "ssm_norm.weight")}
    assert plain == names | {"output_norm.weight"}
    assert shapes["blk.0.ssm_a"] == (8, 1) and shapes["blk.0.ssm_norm.weight"] == (2, 32)
    assert shapes["blk.0.attn_norm.weight"] == (32,) and shapes["blk.0.ssm_conv1d.weight"][1] == 4
    decay = -model.blocks[0].mixer.A_log.exp()  # type: ignore[union-attr]
    torch.testing.assert_close(file.numbers("blk.0.ssm_a")[:, 0], decay.data)


def test_rows_that_are_no_whole_blocks_are_not_quantised(tmp_path: Path) -> None:
    checkpoint("mamba", tmp_path)  # the step size has rank 2
    write_checkpoint(tmp_path, tmp_path / "model.gguf", Kind.Q8_0, max_len=100)
    tensors = File(tmp_path / "model.gguf").tensors
    assert tensors["blk.0.ssm_dt.weight"][0] is Kind.F16 and tensors["blk.0.ssm_in.weight"][0] is Kind.Q8_0


def test_rotating_pairs_after_the_new_order_is_rotating_halves() -> None:
    """Dot products of queries and keys are what attention sees of them."""
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2 * 8, 1, generator=generator) for _ in range(2))
    angles = torch.rand(4, generator=generator)

    def halves(x: Tensor, turn: float) -> Tensor:
        a, b = x.reshape(2, 2, 4).unbind(1)
        c, s = (angles * turn).cos(), (angles * turn).sin()
        return torch.stack((a * c - b * s, b * c + a * s), 1).reshape(2, 8)

    def pairs(x: Tensor, turn: float) -> Tensor:
        a, b = x.reshape(2, 4, 2).unbind(2)
        c, s = (angles * turn).cos(), (angles * turn).sin()
        return torch.stack((a * c - b * s, b * c + a * s), 2).reshape(2, 8)

    ours = (halves(q, 5.0) * halves(k, 2.0)).sum(1)
    theirs = (pairs(in_pairs(q, 2), 5.0) * pairs(in_pairs(k, 2), 2.0)).sum(1)
    torch.testing.assert_close(theirs, ours)


def test_only_llamas_queries_are_reordered(tmp_path: Path) -> None:
    for name, same in (("llama", False), ("qwen3", True)):
        folder = tmp_path / name
        folder.mkdir()
        model = checkpoint(name, folder)
        write_checkpoint(folder, folder / "model.gguf", Kind.F32, max_len=100)
        file = File(folder / "model.gguf")
        queries = model.blocks[0].mixer.q_proj.weight  # type: ignore[union-attr]
        assert torch.equal(file.numbers("blk.0.attn_q.weight"), queries.data) is same


def test_eight_bits_are_near(tmp_path: Path) -> None:
    blocks = (
        torch.randn(6, 32, generator=torch.Generator().manual_seed(1)) * torch.logspace(-4, 2, 6)[:, None]
    )
    blocks[3] = 0
    stored = np.frombuffer(encoded(blocks, Kind.Q8_0), [("d", "<f2"), ("q", "i1", 32)])
    back = stored["d"].astype(np.float32)[:, None] * stored["q"]
    error = np.abs(back - blocks.numpy()).max(1)
    assert (error <= (0.5 / 127 + 2**-11) * np.abs(blocks.numpy()).max(1) + 1e-5).all()
    assert np.abs(stored["q"]).max() == 127 and not back[3].any()


@pytest.mark.parametrize(
    ("name", "other", "why"),
    [
        ("gpt2", {}, "only of llama"),
        ("mistral", {"sliding_window": 64}, "window of 64"),
        (
            "llama",
            {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
            "scaled positions",
        ),
    ],
)
def test_what_is_not_written_says_why(name: str, other: Any, why: str, tmp_path: Path) -> None:
    checkpoint(name, tmp_path, **other)
    with pytest.raises(CheckpointError, match=why):
        write_checkpoint(tmp_path, tmp_path / "model.gguf", Kind.F32, max_len=100)


def test_their_own_reader_reads_it(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    model = checkpoint("llama", tmp_path)
    write_checkpoint(tmp_path, tmp_path / "model.gguf", Kind.F32, max_len=100)
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    found = {tensor.name: tensor for tensor in reader.tensors}
    embedding = torch.tensor(np.array(found["token_embd.weight"].data))
    assert torch.equal(embedding, model.embed.weight.data)
