"""Reading config.json's fields: a value of the wrong type is an error that names its field."""

from __future__ import annotations

import sys
from typing import Any

from offramp.errors import CheckpointError

LARGEST = 1 << 20
"""No size of a model comes near it, and three of them multiplied still fit the 64 bits tensors are counted in."""
LONGEST = 1 << 31
"""Tokens: a context or window beyond it is no limit."""
MOST_BLOCKS = 1 << 10
"""So that a config cannot ask for more than its weights could ever be compared with."""


def positive_int(raw: dict[str, Any], key: str, default: int | None = None, most: int = LARGEST) -> int:
    """raw[key], the default where absent or null. Raises CheckpointError unless it is an integer in 1..most."""
    value = raw.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise CheckpointError(f"config.json: {key} must be an integer from 1 to {most}, not {value!r}")
    return value


def positive_float(raw: dict[str, Any], key: str, default: float) -> float:
    """raw[key], the default where absent or null. Raises CheckpointError unless it is a finite number > 0."""
    value = raw.get(key)
    value = default if value is None else value
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= sys.float_info.max:
        raise CheckpointError(f"config.json: {key} must be a positive number, not {value!r}")
    return float(value)


def flag(raw: dict[str, Any], key: str, default: bool) -> bool:
    value = raw.get(key)
    value = default if value is None else value
    if not isinstance(value, bool):
        raise CheckpointError(f"config.json: {key} must be true or false, not {value!r}")
    return value


def require(raw: dict[str, Any], key: str, only: Any) -> None:
    """Raises CheckpointError where a feature has another value than the supported one (absent is that)."""
    value = raw.get(key, only)
    if value != only:
        raise CheckpointError(f"config.json: {key} = {value!r} is not supported, only {only!r}")


def token_ids(raw: dict[str, Any], key: str, file: str = "config.json") -> tuple[int, ...]:
    """Token ids given as null, an integer or a list. Raises CheckpointError for anything else."""
    value = raw.get(key)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in ids):
        raise CheckpointError(f"{file}: {key} must be a token id or a list of them, not {value!r}")
    return tuple(ids)
