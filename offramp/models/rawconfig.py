"""Reading config.json's fields: a value of the wrong type is an error that names its field."""

from __future__ import annotations

from typing import Any

from offramp.errors import CheckpointError


def positive_int(raw: dict[str, Any], key: str, default: int | None = None) -> int:
    """raw[key], the default where absent or null. Raises CheckpointError unless it is an integer > 0."""
    value = raw.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"config.json: {key} must be a positive integer, not {value!r}")
    return value


def positive_float(raw: dict[str, Any], key: str, default: float) -> float:
    value = raw.get(key)
    value = default if value is None else value
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
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


def token_ids(raw: dict[str, Any], key: str) -> tuple[int, ...]:
    """Token ids given as null, an integer or a list. Raises CheckpointError for anything else."""
    value = raw.get(key)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in ids):
        raise CheckpointError(f"config.json: {key} must be a token id or a list of them, not {value!r}")
    return tuple(ids)
