"""Files of token ids: uint16, little-endian, each document begun by id 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from offramp.errors import DataError

SEPARATOR = 0
"""The id that begins every document of a corpus."""
CORPUS_FILES = ("train.bin", "qa.bin")
"""What a corpus folder holds: the zoo makes it."""


def read_ids(path: Path, shortest: int = 0) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """The ids of a .bin file.

    Raises DataError when it is missing, of odd size, or has no more than `shortest`.
    """
    raw = read_bytes(path)
    if len(raw) % 2:
        raise DataError(f"{path} has an odd number of bytes: ids are two bytes each")
    if len(raw) // 2 <= shortest:
        raise DataError(f"{path} has {len(raw) // 2} ids; rows of {shortest} tokens need more")
    return np.frombuffer(raw, np.dtype("<u2"))


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises DataError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
