"""The prompts of a bench: from a file, those that come with the package, or random tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offramp.bench.contender import Prompt
from offramp.data.jsonl import read_jsonl
from offramp.errors import CheckpointError, DataError, UsageError
from offramp.files import read_text
from offramp.text import Text
from offramp.zoo.prompts import load_prompts

LIMIT = 1 << 24
"""Bytes of a file of prompts."""
RANDOM, LENGTH = 8, 64
"""Random prompts, and the tokens of each where nobody says."""


def from_file(path: Path, text: Text | None) -> list[Prompt]:
    """Raises DataError for a file that holds none."""
    if path.suffix == ".jsonl":
        found = [_item(item, number, path, text) for number, item in read_jsonl(path)]
    else:
        lines = read_text(path, LIMIT, DataError).splitlines()
        found = [_encoded(line, text) for line in lines if line.strip()]
    if not found:
        raise DataError(f"{path} holds no prompt")
    return found


def _item(item: Any, number: int, path: Path, text: Text | None) -> Prompt:
    match item:
        case {"prompt": str(prompt)} if prompt:
            return _encoded(prompt, text)
        case {"tokens": [int(), *_] as tokens} if all(type(token) is int for token in tokens):
            return tuple(tokens)
    raise DataError(f'{path}, line {number}: give "prompt", a text, or "tokens", a list of ids')


def _encoded(prompt: str, text: Text | None) -> Prompt:
    if text is None:
        raise CheckpointError(
            'the model has no tokenizer.json; give prompts as {"tokens": [...]} in a .jsonl file'
        )
    return tuple(text.encode(prompt))


def bundled(text: Text) -> list[Prompt]:
    """Those that the twins are shown with."""
    return [_encoded(prompt.prompt, text) for prompt in load_prompts()]


def at_random(vocab: int, seed: int, length: int) -> list[Prompt]:
    draw = random.Random(seed)
    return [tuple(draw.randrange(vocab) for _ in range(length)) for _ in range(RANDOM)]


def fitted(prompts: Sequence[Prompt], vocab: int, most: int) -> list[Prompt]:
    """Their last `most` tokens. Raises UsageError where there is no room, or a token that the model does not know."""
    if most < 1:
        raise UsageError("the model's context has no room for a prompt and --max-tokens; ask for fewer.")
    if strange := [token for prompt in prompts for token in prompt if not 0 <= token < vocab]:
        raise UsageError(f"a prompt has token {strange[0]}; the model knows 0 to {vocab - 1:,}.")
    return [prompt[-most:] for prompt in prompts]
