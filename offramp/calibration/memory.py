"""What a calibration has found out, kept in a folder: the same question is not asked of the model twice.

A name is the hash of all that decides a result, so an interrupted calibration goes on where it was, and nothing that
was found for other weights, documents or settings is ever taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offramp.errors import OfframpError
from offramp.files import read_json, write_whole

LARGEST = 1 << 28
"""Bytes of one result."""


@dataclass(frozen=True)
class Memory:
    """folder: None remembers nothing."""

    folder: Path | None = None

    def recall(self, question: dict[str, Any], find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `find` gives for a question, a JSON object; from the folder where it was asked before."""
        if self.folder is None:
            return find()
        text = json.dumps(question, sort_keys=True)
        path = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
        if path.is_file():
            with suppress(OfframpError):  # not whole, though written whole: somebody else's; find it anew
                return read_json(path, LARGEST, OfframpError)
        found = find()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(found, allow_nan=False))
        return found
