"""A checkpoint whose tensors are still on the disk: what every conversion takes and gives.

No step holds more than one tensor: a checkpoint may be larger than the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offramp.errors import CheckpointError
from offramp.exits.store import CARD_FILE, FILES
from offramp.files import SMALL, read_json
from offramp.models.families import all_families
from offramp.models.folder import read_config
from offramp.models.quantised_folder import refuse_quantised
from offramp.models.tensors import open_tensors, tensor_files

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
}
"""What safetensors calls the types that are carried over, in its own order."""

COMPANIONS = (
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "llama2c.rope",
)
"""What else belongs to a checkpoint, whatever becomes of its weights."""
EXITS = ("exits/DEFAULT", *(f"exits/{at}{name}" for at in ("", "*/") for name in (*FILES, CARD_FILE)))
"""What belongs to exit sets: their files, not what else lies in their folders."""


@dataclass(frozen=True)
class LazyTensor:
    """A tensor to be read when it is written. `read` gives it in this shape and type, each time anew."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass(frozen=True)
class Source:
    """config.json, the tensors by their names in Hugging Face's layout, and the files beside them.

    files: by their path in the folder; a `Path` is copied, anything else written.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, LazyTensor]
    files: Mapping[str, Path | str | bytes]

    def without_exits(self) -> Source:
        """Exits belong to the weights they were trained on."""
        kept = {name: file for name, file in self.files.items() if not name.startswith("exits/")}
        return replace(self, files=kept)


def from_folder(folder: Path) -> Source:
    """The checkpoint in `folder`, of any family, without tensors that follow from the config.

    Raises CheckpointError as loading it would.
    """
    read_config(folder)  # for what it refuses; the file itself is carried over as it stands
    config = read_json(folder / "config.json", SMALL, CheckpointError)
    refuse_quantised(config, folder)
    names: dict[Path, list[str]] = {}
    derived = _derived(config["model_type"])
    for name, path in tensor_files(folder).items():
        if not name.endswith(derived):
            names.setdefault(path, []).append(name)
    tensors = {
        name: tensor for path, inside in names.items() for name, tensor in lazy_tensors(path, inside).items()
    }
    return Source(config, tensors, _companions(folder))


def lazy_tensors(path: Path, names: list[str] | None = None) -> dict[str, LazyTensor]:
    """The tensors of one safetensors file, all or those named. Raises CheckpointError for a damaged file."""
    with open_tensors(path) as file:
        return {name: _lazy(file, path, name) for name in names or file.keys()}


def _lazy(file: Any, path: Path, name: str) -> LazyTensor:
    found = file.get_slice(name)
    kind = found.get_dtype()
    if kind not in DTYPES:
        raise CheckpointError(f"{path}: tensor {name} has type {kind}; known are {', '.join(DTYPES)}")

    def read() -> Tensor:
        with open_tensors(path) as again:
            tensor: Tensor = again.get_tensor(name)
            return tensor

    return LazyTensor(tuple(found.get_shape()), DTYPES[kind], read)


def _derived(model_type: str) -> tuple[str, ...]:
    """Endings of tensors that the family does not read; none where it is not known."""
    known = (family.derived for family in all_families() if model_type in family.model_types)
    return next(known, ())


def _companions(folder: Path) -> dict[str, Path]:
    """The files beside the weights. Raises CheckpointError for a link that leads out of the checkpoint."""
    found = {path.relative_to(folder): path for name in (*COMPANIONS, *EXITS) for path in folder.glob(name)}
    plain = {
        inside.as_posix(): path
        for inside, path in sorted(found.items())
        if path.is_file() and not any(part.startswith(".") for part in inside.parts)
    }
    for path in plain.values():
        _refuse_a_link_out(path, folder.resolve())
    return plain


def _refuse_a_link_out(path: Path, folder: Path) -> None:
    """What a stranger's link leads to is not theirs to have copied into what will be shared.

    The hub's cache keeps the files of `<name>/snapshots/<commit>` in `<name>/blobs`.
    """
    homes = [folder]
    if folder.parent.name == "snapshots":
        homes.append(folder.parent.with_name("blobs"))
    if not any(path.resolve().is_relative_to(home) for home in homes):
        raise CheckpointError(f"{path} is a link that leads out of the checkpoint: put the file itself there")
