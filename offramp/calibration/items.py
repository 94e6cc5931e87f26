"""What the engine is asked while it is calibrated: an item for each document."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from offramp.data.document import Document
from offramp.errors import DataError, UsageError

SHARES = {"tune": 0.1, "calibrate": 0.7, "test": 0.2}
LONGEST_TEXT = 512
"""Tokens of a document that temperatures are tuned on."""


@dataclass(frozen=True)
class Item:
    """prompt: the tokens that are asked. text: those that temperatures are tuned on, prompt and all that follows.
    answers: the right ones, for metrics that need some."""

    id: str
    prompt: tuple[int, ...]
    text: tuple[int, ...]
    answers: tuple[str, ...] = ()


def continued(document: Document, encode: Callable[[str], list[int]], prompt_tokens: int) -> Item:
    """A text whose first half, or first `prompt_tokens` tokens, is the prompt. Raises DataError for a single token."""
    ids = tuple(encode(document.text))
    if len(ids) < 2:
        raise DataError(f"{document.source}: one token of text; a prompt and what follows it need two")
    return Item(document.id, ids[: min(prompt_tokens, len(ids) // 2)], ids[:LONGEST_TEXT])


def asked(document: Document, answer: str, encode: Callable[[str], list[int]], prompt_tokens: int) -> Item:
    """A prompt with its answer. Raises DataError for a prompt of more than `prompt_tokens` tokens."""
    ids = tuple(encode(document.text))
    if len(ids) > prompt_tokens:
        raise DataError(
            f"{document.source}: the prompt has {len(ids)} tokens, more than {prompt_tokens} (--prompt-tokens)"
        )
    return Item(document.id, ids, tuple(encode(document.text + answer)), (answer,))


def answers_of(prompts: Sequence[Document], answers: Iterable[Document]) -> dict[str, str]:
    """The answer to each prompt, by id: both were read of the same records."""
    found = {document.id: document.text for document in answers}
    missing = [document.source for document in prompts if document.id not in found]
    if missing:
        raise UsageError(f"{missing[0]} has no answer: prompts and answers are of different records.")
    return found


def distinct(parts: Mapping[str, Sequence[Item]]) -> dict[str, list[Item]]:
    """Without items whose prompt has come before, in the same part or another: copies are no independent draws."""
    first: dict[tuple[int, ...], tuple[str, Item]] = {}
    for name, items in parts.items():
        for item in items:
            first.setdefault(item.prompt, (name, item))
    return {part: [item for name, item in first.values() if name == part] for part in parts}


def digest(parts: Mapping[str, Sequence[Item]]) -> str:
    """sha256 (hex) of what is asked in each part, in order."""
    content = {name: [asdict(item) for item in items] for name, items in parts.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()
