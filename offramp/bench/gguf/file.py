"""The GGUF format, version 3 (github.com/ggml-org/ggml, docs/gguf.md): header, facts, tensors' places, tensors.

All numbers are little-endian. Shapes are written with the fastest dimension first; tensors begin on multiples of 32.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from offramp.bench.gguf.kinds import Kind, encoded, encoded_bytes

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
UINT32, FLOAT32, BOOL, STRING = 4, 6, 7, 8

Fact = bool | int | float | str


@dataclass(frozen=True)
class Stored:
    """A tensor by its name in the file, and how its numbers are stored."""

    name: str
    tensor: Tensor
    kind: Kind

    @property
    def nbytes(self) -> int:
        return encoded_bytes(self.tensor.shape, self.kind)


def write_gguf(path: Path, facts: Mapping[str, Fact], tensors: Sequence[Stored]) -> None:
    """The file, tensor by tensor: only one is in memory twice."""
    head = MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(facts))
    head += b"".join(_text(name) + _fact(value) for name, value in facts.items())
    at = 0
    for stored in tensors:
        shape = tuple(stored.tensor.shape)[::-1]
        head += _text(stored.name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", stored.kind, at)
        at += _padded(stored.nbytes)
    with path.open("wb") as file:
        file.write(head + bytes(_padded(len(head)) - len(head)))
        for stored in tensors:
            numbers = encoded(stored.tensor, stored.kind)
            assert len(numbers) == stored.nbytes
            file.write(numbers)
            file.write(bytes(_padded(len(numbers)) - len(numbers)))


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _fact(value: Fact) -> bytes:
    """Its type, and itself."""
    match value:
        case bool():
            return struct.pack("<I?", BOOL, value)
        case int():
            return struct.pack("<II", UINT32, value)
        case float():
            return struct.pack("<If", FLOAT32, value)
    return struct.pack("<I", STRING) + _text(value)
