"""The output of bulk generation: a line of JSON a reply, each with a key, so that a run goes on where one stopped.

The key has two halves, of what the command says and of the line of input. So an interrupted run needs nothing but
its own output, and neither other settings nor other prompts can continue it by mistake.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

from offramp.cli.bulk_prompts import Line
from offramp.cli.bulk_replies import Answer
from offramp.errors import DataError

LONGEST = 1 << 26
"""Bytes: no reply is so long."""


def _line_digest(line: Line) -> str:
    return blake2b(line.raw, digest_size=6).hexdigest()


@dataclass(frozen=True)
class Kept:
    """What an earlier run left: so many lines, so many of them errors, so many bytes. Half a line is not counted."""

    lines: int = 0
    errors: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Output:
    """path: for what is said. file: opened to be read and appended to. settings: the digest of this run's."""

    path: Path
    file: BinaryIO
    settings: str

    def key(self, line: Line) -> str:
        """By which a later run knows the line's answer."""
        return f"{self.settings}-{_line_digest(line)}"

    def kept(self, lines: Iterator[Line]) -> Kept:
        """What is there already, if it is the beginning of this run's output; takes its lines from the input.

        Raises DataError where the file is something else: it is left as it is.
        """
        kept = Kept()
        self.file.seek(0)
        while raw := self.file.readline(LONGEST):
            if not raw.endswith(b"\n"):
                self._check_half(raw, kept.lines)
                break
            item = self._checked(raw, kept.lines, next(lines, None))
            kept = Kept(kept.lines + 1, kept.errors + ("error" in item), kept.bytes + len(raw))
        return kept

    def _checked(self, raw: bytes, index: int, line: Line | None) -> dict[str, Any]:
        """A whole line of the file, if it answers this line of the input."""
        try:
            item = json.loads(raw)
        except (ValueError, RecursionError):
            item = None
        key = item.get("key") if isinstance(item, dict) else None
        if not isinstance(item, dict) or item.get("index") != index or not isinstance(key, str):
            raise self._foreign(index)
        settings, _, of_line = key.partition("-")
        if settings != self.settings:
            raise DataError(
                f"{self.path} was begun with another model, other exits or other settings. Go on with those, or "
                "name another --output."
            )
        if line is None or of_line != _line_digest(line):
            where = f"line {line.number} of the input" if line else "the input, which has fewer lines"
            raise DataError(
                f"line {index + 1} of {self.path} does not answer {where}: it was begun with other prompts. Go on with "
                "those, or name another --output."
            )
        return item

    def _check_half(self, raw: bytes, index: int) -> None:
        """What will be dropped must be the beginning of a line that a killed run was writing."""
        beginning = f'{{"index": {index}, '.encode()
        if not (raw.startswith(beginning) or beginning.startswith(raw)):
            raise self._foreign(index)

    def _foreign(self, index: int) -> DataError:
        return DataError(
            f"line {index + 1} of {self.path} was not written by a bulk run, so nothing is written there. Name "
            "another --output."
        )

    def write(self, kept: Kept, answers: Iterator[Answer]) -> Iterator[Answer]:
        """Append the answers to what was kept, each as it comes; gives back what is on its way to the disk."""
        self.file.truncate(kept.bytes)
        self.file.seek(0, os.SEEK_END)
        for answer in answers:
            self.file.write(answer.line)
            self.file.flush()
            yield answer
