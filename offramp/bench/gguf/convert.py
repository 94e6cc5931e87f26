"""A model of ours as a GGUF: which of its matrices are stored how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from offramp.bench.gguf.file import Fact, Stored, write_gguf
from offramp.bench.gguf.kinds import BLOCK, FILE_TYPES, Kind
from offramp.errors import CheckpointError
from offramp.models.base import Model

NAMES = {
    "embed.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "head.weight": "output.weight",
}
"""Of what all families have outside their blocks."""


@dataclass(frozen=True)
class Written:
    """What a family writes. architecture: llama.cpp's name for it. facts: about it, by names without the
    architecture's. tensors: the blocks' own, by its names, changed where the layout differs."""

    architecture: str
    facts: Mapping[str, Fact]
    tensors: Mapping[str, Tensor]


def write_model(model: Model, written: Written, path: Path, kind: Kind) -> int:
    """kind: of the matrices; vectors, convolutions and decays are float32, as llama.cpp wants them.

    Returns the bytes that a token reads: of the embedding one row, but all where it is the head too.
    """
    name = written.architecture
    config = model.config
    facts: dict[str, Fact] = {
        "general.architecture": name,
        "general.file_type": FILE_TYPES[kind],
        "general.quantization_version": 2,
        f"{name}.vocab_size": config.vocab_size,
        f"{name}.context_length": config.context_length,
        f"{name}.embedding_length": config.hidden_size,
        f"{name}.block_count": config.num_blocks,
        f"{name}.attention.layer_norm_rms_epsilon": config.norm_eps,
        **{f"{name}.{fact}": value for fact, value in written.facts.items()},
        "tokenizer.ggml.model": "none",  # it is given ids
    }
    tensors = list(_stored(model, written, kind))
    write_gguf(path, facts, tensors)
    unread = () if config.tie_embeddings else (NAMES["embed.weight"],)
    return sum(stored.nbytes for stored in tensors if stored.name not in unread)


def _stored(model: Model, written: Written, kind: Kind) -> Iterator[Stored]:
    for ours, theirs in NAMES.items():
        if ours != "head.weight" or not model.config.tie_embeddings:
            yield _as(theirs, model.get_parameter(ours), kind)
    for name, tensor in written.tensors.items():
        yield _as(name, tensor, kind)


def _as(name: str, tensor: Tensor, kind: Kind) -> Stored:
    """Rows that do not come in whole blocks are not quantised."""
    if tensor.dim() < 2 or not name.endswith(".weight") or any(part in name for part in ("conv1d", "norm")):
        kind = Kind.F32
    elif kind is Kind.Q8_0 and tensor.shape[-1] % BLOCK:
        kind = Kind.F16
    return Stored(name, tensor, kind)


def refuse(model: Model, what: str) -> CheckpointError:
    return CheckpointError(f"no GGUF is written of {model.config.model_type} with {what}")
