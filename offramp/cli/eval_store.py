"""Answers kept in a file, one JSON object a line, each under a key that says what was asked of what and how.

So nothing is asked twice: an interrupted run goes on, other settings find the full model's answers, and lines of
another model or task stand beside without being mixed up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

from offramp.cli.bulk_file import sole_writer
from offramp.cli.bulk_output import LONGEST
from offramp.errors import DataError
from offramp.evaluation.asking import Answer, Asked
from offramp.evaluation.replies import Reply
from offramp.evaluation.tasks.base import Scored

BEGINNING = b'{"key": '


@dataclass
class Store:
    """By key, the answers; file: where they are kept, None: nowhere."""

    known: dict[str, Answer] = field(default_factory=dict)
    file: BinaryIO | None = None

    def put(self, key: str, answer: Answer, about: Mapping[str, Any]) -> None:
        """Keep an answer; about: what a reader of the file may want to know of it."""
        self.known[key] = answer
        if self.file is not None:
            line = {"key": key, **about, **_written(answer)}
            self.file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
            self.file.flush()


def key_of(settings: str, asked: Asked, most: int, stop: tuple[str, ...]) -> str:
    """settings: the digest of the model and of how it runs."""
    return f"{settings}-{blake2b(repr((asked.pairs, most, stop)).encode(), digest_size=12).hexdigest()}"


@contextmanager
def store_in(path: Path | None) -> Iterator[Store]:
    """The answers in a file, which no other run can have in the block; half a line of a killed run is dropped.

    Raises DataError for a file of something else, which is left as it is, UsageError where another run has it.
    """
    if path is None:
        yield Store()
        return
    with sole_writer(path) as file:
        known, whole = _read(path, file)
        file.truncate(whole)
        file.seek(0, os.SEEK_END)
        yield Store(known, file)


def _read(path: Path, file: BinaryIO) -> tuple[dict[str, Answer], int]:
    """The answers, and how many bytes hold them."""
    known, whole, number = dict[str, Answer](), 0, 0
    file.seek(0)
    while raw := file.readline(LONGEST):
        number += 1
        if not raw.endswith(b"\n") and (raw.startswith(BEGINNING) or BEGINNING.startswith(raw)):
            break
        key, answer = _line(raw, f"{path}, line {number}")
        known[key] = answer
        whole += len(raw)
    return known, whole


def _line(raw: bytes, where: str) -> tuple[str, Answer]:
    try:
        item = json.loads(raw)
        if "reply" in item:
            return str(item["key"]), Reply.from_json(item["reply"])
        return str(item["key"]), tuple(map(_scored, item["scored"]))
    except (ValueError, OverflowError, RecursionError, KeyError, TypeError, DataError) as error:
        raise DataError(
            f"{where}: not written by offramp eval, so nothing is written there. Name another --out."
        ) from error


def _scored(raw: Mapping[str, Any]) -> Scored:
    return Scored(tuple(map(float, raw["logprobs"])), bool(raw["greedy"]), tuple(map(int, raw["depths"])))


def _written(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Reply):
        return {"text": answer.text, "reply": answer.to_json()}
    return {"scored": [asdict(scored) for scored in answer]}
