"""The tensors of a checkpoint folder: safetensors, in one file or in shards with an index, memory-mapped.

Every tensor is checked before it is handed out: type, shape, and that its values are finite as wanted. One that is
stored in the type that is wanted stays where it lies, in the file's pages, of which the system has one copy for all
processes; only others are copied.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from offramp.errors import CheckpointError
from offramp.files import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
INDEX_LIMIT = 64 << 20  # bytes; published ones have some hundreds of KiB
FLOATS = {"F64", "F32", "F16", "BF16"}


def tensor_files(folder: Path) -> dict[str, Path]:
    """Tensor name -> the file that holds it.

    Raises CheckpointError for damaged files, an index that does not fit its shards, and no safetensors.
    """
    if (folder / SINGLE).exists():
        return dict.fromkeys(_names(folder / SINGLE), folder / SINGLE)
    if (folder / INDEX).exists():
        return _indexed(folder)
    if any(path.suffix in (".bin", ".pt", ".pth", ".ckpt") for path in folder.iterdir()):
        raise CheckpointError(
            f"{folder} has its weights only as pickles, which can run code when opened: convert them to"
            " safetensors (transformers: save_pretrained) and load that folder"
        )
    raise CheckpointError(f"{folder} has no weights: neither {SINGLE} nor {INDEX}")


def read_tensors(
    files: Mapping[str, Path], shapes: Mapping[str, Sequence[int]], dtype: torch.dtype | None
) -> Iterator[tuple[str, Tensor]]:
    """The tensors named in `shapes`, file by file, as `dtype`; None: as they are stored, but float64 as float32.

    Raises CheckpointError naming one that does not fit.
    """
    for path in sorted({files[name] for name in shapes}):
        with open_tensors(path) as file:
            for name in sorted(name for name in shapes if files[name] == path):
                yield name, _read(file, path, name, shapes[name], dtype)


def _read(file: Any, path: Path, name: str, shape: Sequence[int], dtype: torch.dtype | None) -> Tensor:
    found = file.get_slice(name)
    if found.get_dtype() not in FLOATS:
        raise CheckpointError(
            f"{path}: tensor {name} has type {found.get_dtype()}, not float32, float16 or bfloat16"
        )
    if list(found.get_shape()) != list(shape):
        raise CheckpointError(
            f"{path}: tensor {name} has shape {list(found.get_shape())}, config.json asks for {list(shape)}"
        )
    kept: Tensor = file.get_tensor(name)
    tensor = kept.to(dtype or (torch.float32 if kept.dtype == torch.float64 else kept.dtype))
    if not all_finite(tensor):  # after the cast: 1e300 is finite in float64 only
        raise CheckpointError(
            f"{path}: tensor {name} holds NaN or values that are infinite in {tensor.dtype}"
        )
    return tensor


def all_finite(tensor: Tensor) -> bool:
    """Whether no value is infinite or NaN. The least and the greatest tell, and need no memory for all others."""
    return tensor.numel() == 0 or all(math.isfinite(end.item()) for end in torch.aminmax(tensor))


def _indexed(folder: Path) -> dict[str, Path]:
    shards = read_json(folder / INDEX, INDEX_LIMIT, CheckpointError).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise CheckpointError(f"{folder / INDEX} has no weight_map of tensor names to file names")
    for shard in sorted(set(shards.values())):
        plain = Path(shard).name == shard and "\\" not in shard and shard.isprintable()
        if not plain or not shard.endswith(".safetensors"):
            raise CheckpointError(f"{folder / INDEX} names {shard!r}, which is no safetensors file beside it")
    files = {
        name: folder / shard for shard in sorted(set(shards.values())) for name in _names(folder / shard)
    }
    for name, shard in shards.items():
        if files.get(name) != folder / shard:
            raise CheckpointError(f"{folder / INDEX} says that {shard} holds tensor {name}, but it does not")
    return files


def _names(path: Path) -> list[str]:
    with open_tensors(path) as file:
        return list(file.keys())


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """One safetensors file, readable by whom the umask lets. Raises OSError where it cannot be written."""
    path.touch()
    mode = path.stat().st_mode  # what any other new file gets: the library's own is its owner's alone
    try:
        save_file(dict(tensors), path, metadata=metadata)
        path.chmod(mode)
    except SafetensorError as error:
        # The library wraps the system's error, and leaves its number to the text.
        number = re.search(r"(?:os error|code:) (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def open_tensors(path: Path) -> Any:
    """A safetensors file, memory-mapped, for `with`. Raises CheckpointError where it is missing or damaged."""
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise CheckpointError(f"{path} is not a regular file")
    try:
        return safe_open(str(path), framework="pt", device="cpu")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing, though {INDEX} names it") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or cut short ({error}): fetch it again") from error
