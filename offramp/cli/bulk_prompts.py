"""The input of bulk generation: a line of JSON is a prompt and what it wants otherwise than the command says."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

from offramp.cli.generation import encode
from offramp.engine.load import Checkpoint
from offramp.engine.request import Request, Sampling
from offramp.errors import CheckpointError, DataError, OfframpError
from offramp.registry import unknown
from offramp.text.unicode import broken_at

LIMIT = 1 << 20
"""Bytes of a line."""
PROMPTS = ("prompt", "tokens", "messages")
NUMBERS = {
    field.name: type(field.default) for field in fields(Sampling) if isinstance(field.default, int | float)
}
"""What a line may say of sampling, and the type it has."""
FIELDS = (*PROMPTS, "id", "max_tokens", "stop", *NUMBERS)


@dataclass(frozen=True)
class Line:
    """index: among the lines that are not blank, from 0. number: in the file, from 1. raw: without its line end; of
    a line that is too long the beginning."""

    index: int
    number: int
    raw: bytes


@dataclass(frozen=True)
class Task:
    """A line's request, or why there is none. Many wait at a time, so the line itself is not kept.

    index: the line's. key: by which a later run knows that it is done. id: the line's own, if it has one.
    """

    index: int
    key: str
    id: str | int | None = None
    request: Request | None = None
    error: str | None = None


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """The lines of a file at its beginning that are not blank, one at a time; only a line feed ends a line."""
    if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:  # which editors on Windows put first
        file.seek(0)
    index = number = 0
    while raw := file.readline(LIMIT + 2):
        number += 1
        rest = raw
        while len(rest) == LIMIT + 2 and not rest.endswith(b"\n"):
            rest = file.readline(LIMIT + 2)
        if raw := raw.strip():
            yield Line(index, number, raw)
            index += 1


def count_lines(path: Path) -> int:
    """How many lines `read_lines` gives. Raises DataError where the file cannot be read twice, or at all."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is not a regular file; bulk generation reads its input more than once.")
    with path.open("rb") as file:
        return sum(1 for _ in read_lines(file))


@dataclass(frozen=True)
class Reader:
    """Makes tasks of lines. base: what the command says, for some prompt. check: raises OfframpError for a request
    that the engine cannot serve. key: of a line."""

    checkpoint: Checkpoint
    base: Request
    chat: bool
    check: Callable[[Request], None]
    key: Callable[[Line], str]

    def task(self, line: Line) -> Task:
        """What a line asks, or what is wrong with it."""
        item: dict[str, Any] = {}
        key = self.key(line)
        try:
            item = _parse(line)
            request = self._request(item)
            self.check(request)
        except OfframpError as error:
            return Task(line.index, key, item.get("id"), error=f"line {line.number}: {error}")
        return Task(line.index, key, item.get("id"), request)

    def _request(self, item: dict[str, Any]) -> Request:
        if strange := [name for name in item if name not in FIELDS]:
            raise DataError(unknown("field", strange[0], FIELDS))
        sampling = {name: _number(item, name, kind) for name, kind in NUMBERS.items() if name in item}
        return replace(
            self.base,
            prompt=self._prompt(item),
            sampling=replace(self.base.sampling, **sampling),
            max_tokens=_number(item, "max_tokens", int) if "max_tokens" in item else self.base.max_tokens,
            stop=_stops(item["stop"]) if "stop" in item else self.base.stop,
        )

    def _prompt(self, item: dict[str, Any]) -> tuple[int, ...]:
        given = [name for name in PROMPTS if name in item]
        if len(given) != 1:
            raise DataError(
                f"a line has one of {', '.join(PROMPTS)}; this one has {', '.join(given) or 'none'}."
            )
        match given[0], item[given[0]]:
            case "prompt", str(prompt):
                return encode(self.checkpoint, prompt, self.chat)
            case "tokens", [*ids] if all(type(token) is int for token in ids):
                return tuple(ids)
            case "messages", [*turns] if all(isinstance(turn, dict) for turn in turns):
                return self._chat(turns)
        wanted = {"prompt": "a string", "tokens": "a list of token ids", "messages": "a list of objects"}
        raise DataError(f'"{given[0]}" must be {wanted[given[0]]}.')

    def _chat(self, turns: list[dict[str, Any]]) -> tuple[int, ...]:
        text = self.checkpoint.text
        if text is None:
            raise CheckpointError(f"{self.checkpoint.folder} has no tokenizer.json and cannot read messages.")
        return tuple(text.encode(text.chat(turns)))


def _parse(line: Line) -> dict[str, Any]:
    if len(line.raw) > LIMIT:
        raise DataError(f"the line is longer than {LIMIT:,} bytes.")
    try:
        item = json.loads(line.raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error}).") from error
    if not isinstance(item, dict):
        raise DataError(f'a JSON {type(item).__name__}, not an object like {{"prompt": "..."}}.')
    name = item.get("id")
    if name is not None and type(name) not in (str, int):
        raise DataError('"id" must be a string or a whole number.')
    if isinstance(name, str) and (where := broken_at(name)):
        raise DataError(f'"id" is not valid Unicode: {where}.')
    return item


def _number(item: dict[str, Any], name: str, kind: type) -> Any:
    """A number of the kind; a whole one will do for a fraction."""
    value = item[name]
    if type(value) not in ((int,) if kind is int else (int, float)):
        raise DataError(f'"{name}" must be a {"whole " if kind is int else ""}number.')
    try:
        return kind(value)
    except OverflowError as error:
        raise DataError(f'"{name}" is too large.') from error


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise DataError('"stop" must be a string or a list of strings.')
    return tuple(stops)
