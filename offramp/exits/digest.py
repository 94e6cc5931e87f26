"""A short name for exits: every byte of their weights, and how they are made and placed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from offramp.exits.base import Exit
from offramp.models.fingerprint import add_weights


def exits_digest(exits: Iterable[Exit]) -> str:
    """sha256 (hex) of the exits' places, classes, settings and weights, in whatever precision they were loaded."""
    digest = hashlib.sha256()
    for exit in exits:
        digest.update(f"after {exit.after}\n".encode())
        for name, module in exit.named_modules():
            settings = sorted((key, value) for key, value in vars(module).items() if _is_setting(key, value))
            digest.update(f"{name} {type(module).__name__} {settings}\n".encode())
        add_weights(digest, exit)
    return digest.hexdigest()


def _is_setting(name: str, value: object) -> bool:
    """A plain number or word that a module was made with; `training` is a mode, not a setting."""
    return name[0] != "_" and name != "training" and isinstance(value, int | float | str)
