"""A checkpoint folder written tensor by tensor: safetensors in one file, or in shards with an index.

The format (github.com/huggingface/safetensors): the header's length in 8 little-endian bytes, the header as
JSON, then the tensors one after another. Order and padding are the library's, so the bytes are too.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from offramp.convert.source import DTYPES, LazyTensor, Source
from offramp.errors import CheckpointError, UsageError
from offramp.files import whole_folder
from offramp.models.tensors import INDEX, SINGLE

Tensors = Mapping[str, LazyTensor]

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}


def write_folder(source: Source, out: Path, max_shard: int | None = None) -> None:
    """Write the checkpoint to `out`, whole or not at all. max_shard: bytes of a file; None: all in one.

    Raises OfframpError where `out` holds something, CheckpointError for values that are not finite.
    """
    with whole_folder(out, ()) as fresh:
        for name, file in source.files.items():
            _put(file, fresh / name)
        _put(json.dumps(source.config, indent=2) + "\n", fresh / "config.json")
        shards = split(source.tensors, max_shard)
        if len(shards) == 1:
            write_tensors(shards[0], fresh / SINGLE)
        else:
            _write_shards(shards, fresh)


def split(tensors: Tensors, max_shard: int | None) -> list[Tensors]:
    """The tensors in their order, in as few shards of at most `max_shard` bytes as that allows.

    A tensor larger than that has a shard of its own.
    """
    shards: list[dict[str, LazyTensor]] = [{}]
    room = max_shard
    for name, tensor in tensors.items():
        if room is not None and max_shard is not None:
            if shards[-1] and tensor.nbytes > room:
                shards.append({})
                room = max_shard
            room -= tensor.nbytes
        shards[-1][name] = tensor
    return list(shards)


def write_tensors(tensors: Tensors, path: Path) -> None:
    """One safetensors file. Raises CheckpointError naming a tensor that holds NaN or infinite values."""
    kinds = {dtype: kind for kind, dtype in DTYPES.items()}
    rank = {dtype: -i for i, dtype in enumerate(kinds)}  # the widest first, so that all are aligned
    names = sorted(tensors, key=lambda name: (rank[tensors[name].dtype], name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        tensor, start = tensors[name], end
        end += tensor.nbytes
        header[name] = {"dtype": kinds[tensor.dtype], "shape": tensor.shape, "data_offsets": [start, end]}
    said = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    said += b" " * (-len(said) % 8)
    with path.open("wb") as file:
        file.write(len(said).to_bytes(8, "little") + said)
        for name in names:
            file.write(_bytes_of(name, tensors[name]))


def parse_size(text: str) -> int:
    """Bytes meant by "2GB", "500 MB", "1.5GiB". Raises UsageError for anything else, and for none."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([A-Z]+)", text.strip().upper(), re.ASCII)
    size = int(float(found[1]) * UNITS.get(found[2], 0)) if found else 0
    if size < 1:
        raise UsageError(f"a size of {text!r} is not understood; write 2GB, 500MB or 1.5GiB")
    return size


def _bytes_of(name: str, tensor: LazyTensor) -> memoryview:
    value = tensor.read()
    assert (tuple(value.shape), value.dtype) == (tensor.shape, tensor.dtype), f"{name} is not as announced"
    if value.is_floating_point() and not torch.isfinite(value).all():
        raise CheckpointError(f"tensor {name} holds NaN or infinite values: it cannot be of use")
    return value.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _write_shards(shards: list[Tensors], folder: Path) -> None:
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_tensors(shard, folder / file)
        where |= dict.fromkeys(shard, file)
    size = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(where.items()))}
    _put(json.dumps(index, indent=2) + "\n", folder / INDEX)


def _put(content: Path | str | bytes, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copyfile(content, target)
    else:
        target.write_bytes(content.encode() if isinstance(content, str) else content)
