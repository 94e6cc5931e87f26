"""Frozen dataclasses from JSON, strictly: no field is missing, none is unknown."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from offramp.errors import UsageError


def dataclass_from(kind: type[Any], raw: Mapping[str, Any]) -> Any:
    """The dataclass whose fields `raw` holds; lists become tuples. Raises UsageError, as its own checks do."""
    known = {item.name for item in fields(kind)}
    needed = {
        item.name for item in fields(kind) if item.default is MISSING and item.default_factory is MISSING
    }
    if missing := sorted(needed - raw.keys()):
        raise UsageError(f"missing fields {missing}")
    if unknown := sorted(raw.keys() - known):
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise UsageError(f"unknown fields {reprlib.repr(unknown[:3])}{more}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()})
