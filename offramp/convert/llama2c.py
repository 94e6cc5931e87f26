"""llama2.c's legacy checkpoints (version 0: github.com/karpathy/llama2.c, export.py and run.c), in and out.

Seven int32 (a negative vocabulary: the head is not the embedding), then float32, each kind of weight stacked
over the layers; two tables of rotary positions, which run.c skips, are kept in a file of their own, so that what
comes in goes out byte for byte. All is little-endian. llama2.c turns neighbouring dimensions of a head where
Hugging Face's Llama turns its two halves: rows of the q and k projections change places.

Letters: V vocabulary, D width, H inner width of the MLP, L layers, S positions.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from offramp.convert.source import LazyTensor, Source
from offramp.errors import CheckpointError
from offramp.files import whole_file
from offramp.models.families import family_for
from offramp.models.fingerprint import INCIDENTAL
from offramp.models.rawconfig import LARGEST, MOST_BLOCKS

HEADER = struct.Struct("<7i")
ROPE_FILE = "llama2c.rope"
THETA, NORM_EPS = 10000.0, 1e-5  # written into run.c
MOST = {"layers": MOST_BLOCKS}
"""The largest value of a number of the header, where that is not LARGEST."""
ROPE_ROWS = 1 << 12
"""Positions whose rotations are in memory at once: a long context's tables may be larger than the model."""
VERSIONED = b"24ka"  # "ak42" as an int32: files of version 1 and 2 begin with it


@dataclass(frozen=True)
class Header:
    """In the order of the file. tied: the head is the embedding (the sign of the vocabulary in the file)."""

    dim: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    positions: int
    tied: bool

    def __post_init__(self) -> None:
        """Raises CheckpointError, naming the number, for one that no model can have."""
        for field in fields(self):
            value, most = getattr(self, field.name), MOST.get(field.name, LARGEST)
            if field.name != "tied" and not 1 <= value <= most:
                raise CheckpointError(
                    f"llama2.c header: {field.name} is {value}; it must be from 1 to {most}"
                )
        if self.dim % self.heads or self.dim // self.heads % 2 or self.heads % self.kv_heads:
            raise CheckpointError(
                f"llama2.c header: a width of {self.dim} does not give {self.heads} heads an even number of"
                f" dimensions each, or {self.kv_heads} key-value heads cannot be shared among them"
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def rope_bytes(self) -> int:
        return 2 * self.positions * (self.head_dim // 2) * 4

    def to_bytes(self) -> bytes:
        *sizes, vocab, positions, tied = astuple(self)
        return HEADER.pack(*sizes, vocab if tied else -vocab, positions)


@dataclass(frozen=True)
class Part:
    """A tensor of the file: its name in Hugging Face's layout; heads: how many it is cut into to be turned."""

    name: str
    shape: tuple[int, ...]
    heads: int = 0


ROPE = Part(ROPE_FILE, ())
"""Stands in the layout where the rotary tables do."""


def layout(header: Header) -> Iterator[Part]:
    """Every part of the file behind its header, in order."""
    width, inner, kv_width = header.dim, header.hidden, header.kv_heads * header.head_dim
    stacked = (
        Part("input_layernorm", (width,)),
        Part("self_attn.q_proj", (width, width), header.heads),
        Part("self_attn.k_proj", (kv_width, width), header.kv_heads),
        Part("self_attn.v_proj", (kv_width, width)),
        Part("self_attn.o_proj", (width, width)),
        Part("post_attention_layernorm", (width,)),
        Part("mlp.gate_proj", (inner, width)),  # w1
        Part("mlp.down_proj", (width, inner)),  # w2
        Part("mlp.up_proj", (inner, width)),  # w3
    )
    yield Part("model.embed_tokens.weight", (header.vocab, width))
    for part in stacked:
        for layer in range(header.layers):
            yield Part(f"model.layers.{layer}.{part.name}.weight", part.shape, part.heads)
    yield Part("model.norm.weight", (width,))
    yield ROPE
    if not header.tied:
        yield Part("lm_head.weight", (header.vocab, width))


def read(path: Path) -> Source:
    """The model in a llama2.c file, without a tokenizer.

    Raises CheckpointError for a file of another kind or version, and for one whose size is not its header's.
    """
    header = _header(path)
    tensors: dict[str, LazyTensor] = {}
    files: dict[str, bytes] = {}
    at = HEADER.size
    for part in layout(header):
        if part is ROPE:
            files[ROPE_FILE] = bytes(np.memmap(path, np.uint8, "r", at, (header.rope_bytes,)))
            at += header.rope_bytes
        else:
            tensors[part.name] = _lazy(path, at, part)
            at += tensors[part.name].nbytes
    return Source(config_of(header), tensors, files)


def write(source: Source, path: Path) -> None:
    """Write a Llama as llama2.c's file, whole or not at all.

    Raises CheckpointError for a model that run.c would not compute as it is, naming what is different, and
    OfframpError where `path` exists.
    """
    header = header_of(source.config)
    parts = list(layout(header))
    wanted = {part.name: part for part in parts if part is not ROPE}
    copy = {"lm_head.weight"} if header.tied else set()  # of the embedding
    if wrong := source.tensors.keys() - copy ^ wanted.keys():
        raise CheckpointError(f"tensor {min(wrong)} does not fit config.json: llama2.c has no place for it")
    with whole_file(path) as file:
        file.write(header.to_bytes())
        for part in parts:
            file.writelines(_rope_bytes(source, header) if part is ROPE else (_bytes_of(source, part),))


def config_of(header: Header) -> dict[str, Any]:
    """config.json of the model. Both ends are end tokens: run.c stops at the begin of the next text."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": header.vocab,
        "hidden_size": header.dim,
        "intermediate_size": header.hidden,
        "num_hidden_layers": header.layers,
        "num_attention_heads": header.heads,
        "num_key_value_heads": header.kv_heads,
        "head_dim": header.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": header.positions,
        "rms_norm_eps": NORM_EPS,
        "rope_parameters": {"rope_theta": THETA, "rope_type": "default"},
        "rope_theta": THETA,
        "tie_word_embeddings": header.tied,
        "bos_token_id": 1,
        "eos_token_id": [1, 2],
        "dtype": "float32",
    }


def header_of(config: Any) -> Header:
    """The header of a model. Raises CheckpointError where llama2.c knows no model like it."""
    if config.get("model_type") != "llama":
        raise CheckpointError(f"llama2.c knows no model_type {config.get('model_type')!r}, only 'llama'")
    family = family_for("llama")
    found: Any = family.config_from(dict(config))
    header = Header(
        dim=found.hidden_size,
        hidden=found.intermediate_size,
        layers=found.num_blocks,
        heads=found.heads,
        kv_heads=found.kv_heads,
        vocab=found.vocab_size,
        positions=found.context_length,
        tied=found.tie_embeddings,
    )
    known = family.config_from(config_of(header))
    for field in fields(known):
        ours, theirs = getattr(known, field.name), getattr(found, field.name)
        if field.name not in INCIDENTAL and ours != theirs:
            raise CheckpointError(f"llama2.c runs {field.name} = {ours} only, and this model has {theirs}")
    return header


def rope_angles(header: Header) -> Iterator[Tensor]:
    """What cosine and sine are taken of, `[S, head_dim / 2]` in pieces, with the roundings of llama2.c's float32."""
    half = torch.arange(0, header.head_dim, 2).float() / header.head_dim
    for positions in torch.arange(header.positions).split(ROPE_ROWS):
        yield torch.outer(positions, 1.0 / THETA**half).float()


def to_halves(weight: Tensor, heads: int) -> Tensor:
    """Rows `[heads * K, D]` from pairs (0, 1), (2, 3), ... of each head to pairs (0, K/2), (1, K/2 + 1), ..."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(weight.shape)


def to_pairs(weight: Tensor, heads: int) -> Tensor:
    """The inverse of `to_halves`."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(weight.shape)


def _header(path: Path) -> Header:
    if not path.is_file():
        raise CheckpointError(f"{path} is no file in llama2.c's format: it is not a regular file")
    try:
        with path.open("rb") as file:
            raw = file.read(HEADER.size)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if raw.startswith(VERSIONED):
        raise CheckpointError(
            f"{path} is of llama2.c's version 1 or 2; export it as version 0 (the legacy one)"
        )
    if len(raw) < HEADER.size:
        raise CheckpointError(f"{path} has {len(raw)} bytes; a llama2.c header alone has {HEADER.size}")
    dim, hidden, layers, heads, kv_heads, vocab, positions = HEADER.unpack(raw)
    try:
        header = Header(dim, hidden, layers, heads, kv_heads, abs(vocab), positions, tied=vocab > 0)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is no checkpoint of llama2.c: {error}") from error
    expected = HEADER.size + sum(
        header.rope_bytes if part is ROPE else 4 * torch.Size(part.shape).numel() for part in layout(header)
    )
    if size != expected:
        raise CheckpointError(f"{path} has {size:,} bytes, its header asks for {expected:,}: it is not whole")
    return header


def _lazy(path: Path, at: int, part: Part) -> LazyTensor:
    def read() -> Tensor:
        found = torch.from_numpy(np.array(np.memmap(path, "<f4", "r", at, part.shape), np.float32))
        return to_halves(found, part.heads) if part.heads else found

    return LazyTensor(part.shape, torch.float32, read)


def _rope_bytes(source: Source, header: Header) -> Iterator[bytes]:
    """The tables of cosines and of sines: those the model came with, where it has them; else new ones."""
    file = source.files.get(ROPE_FILE)
    if isinstance(file, bytes) and len(file) == header.rope_bytes:
        yield file
    elif isinstance(file, Path) and file.stat().st_size == header.rope_bytes:
        yield file.read_bytes()
    else:
        for table in (torch.cos, torch.sin):
            yield from (table(angle).numpy().astype("<f4").tobytes() for angle in rope_angles(header))


def _bytes_of(source: Source, part: Part) -> bytes:
    weight = source.tensors[part.name].read().float()
    if tuple(weight.shape) != part.shape or not torch.isfinite(weight).all():
        raise CheckpointError(
            f"tensor {part.name} has shape {list(weight.shape)}, config.json asks for {list(part.shape)}, or it"
            " holds NaN or infinite values"
        )
    weight = to_pairs(weight, part.heads) if part.heads else weight
    return weight.numpy().astype("<f4").tobytes()
