"""The three files that a study reads, made of the bundled models' corpus or of anybody's documents."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from offramp.data.bins import SEPARATOR, read_ids
from offramp.data.jsonl import read_jsonl
from offramp.data.reading import read_documents
from offramp.data.split import split
from offramp.evaluation import tasks
from offramp.files import write_whole
from offramp.study.inputs import Prompt, spread
from offramp.study.scale import Scale
from offramp.zoo import corpus

SHARES = {"training": 0.7, "tune": 0.2, "prompts": 0.1}
"""Of a user's own documents."""
TUNE = 400
"""Texts of each kind to tune on, at most."""
BEGINNING = 360
"""Characters of a document that a prompt holds at most: about half of what is short."""
CHARACTERS = 6_000_000
"""Of training text, from the corpus."""
QUESTIONS = ("facts_qa", "stories_qa")


@dataclass(frozen=True)
class Files:
    """training.jsonl and tune.jsonl hold a "text" in every line, prompts.jsonl a `study.inputs.Prompt`."""

    folder: Path

    @property
    def training(self) -> Path:
        return self.folder / "training.jsonl"

    @property
    def tune(self) -> Path:
        return self.folder / "tune.jsonl"

    @property
    def prompts(self) -> Path:
        return self.folder / "prompts.jsonl"

    def sha256(self) -> str:
        parts = [
            hashlib.sha256(path.read_bytes()).hexdigest() for path in (self.training, self.tune, self.prompts)
        ]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    def write(self, training: Iterable[str], tune: Iterable[str], prompts: Iterable[Prompt]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.training, ({"text": text} for text in training))
        _write(self.tune, ({"text": text} for text in tune))
        _write(self.prompts, map(asdict, prompts))


def from_documents(files: Files, data: str | Path, field: str, scale: Scale, most: int | None = None) -> None:
    """Documents, no more than `most`, by content into training, tuning and prompts.

    Raises DataError as `read_documents` and `split` do.
    """
    parts = split(read_documents(data, field=field, limit=most), SHARES)
    texts = {name: [document.text for document in part] for name, part in parts.items()}
    continued = spread(texts["prompts"], scale.code + 2 * scale.answers)
    files.write(texts["training"], texts["tune"], _continued(continued, "text", scale))


def from_corpus(files: Files, folder: Path, scale: Scale) -> None:
    """The corpus in the folder, made there first where it is missing: code, and questions with answers."""
    if not is_corpus(folder):
        corpus.build(folder, corpus.CorpusPlan())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pieces = {name: _decoded(folder / name, tokenizer) for name in ("train.bin", "qa.bin")}
    tune = [raw["text"] for _, raw in read_jsonl(folder / "calibration.jsonl")]
    questions, code = pieces["qa.bin"], pieces["train.bin"]
    held_out = [*spread(tune, TUNE), *questions[:TUNE]]
    random.Random(0).shuffle(held_out)
    tests = spread([raw["text"] for _, raw in read_jsonl(folder / "test.jsonl")], scale.code)
    asked = [prompt for name in QUESTIONS for prompt in _asked(name, scale)]
    training = [*_first(code, CHARACTERS // 2), *_first(questions[TUNE:], CHARACTERS // 2)]
    files.write(training, held_out, [*_continued(tests, "code", scale), *asked])


def is_corpus(folder: Path) -> bool:
    return all((folder / name).is_file() for name in corpus.OUTPUTS)


def _decoded(path: Path, tokenizer: Tokenizer) -> list[str]:
    """A file's documents as text, in random order, about as many as are needed."""
    ids = read_ids(path)
    starts = [*np.flatnonzero(ids == SEPARATOR).tolist(), len(ids)]
    spans = list(pairwise(starts))
    random.Random(path.name).shuffle(spans)
    found, characters = [], 0
    for start, end in spans:
        text = tokenizer.decode(ids[start + 1 : end].tolist())
        if text.strip():
            found.append(text)
            characters += len(text)
        if characters > CHARACTERS:
            break
    return found


def _first(texts: Iterable[str], characters: int) -> Iterable[str]:
    for text in texts:
        if characters <= 0:
            return
        characters -= len(text)
        yield text


def _continued(texts: Iterable[str], kind: str, scale: Scale) -> list[Prompt]:
    """Beginnings of texts, to be gone on with: half of a text, and no more than BEGINNING characters."""
    beginnings = (text[: min(BEGINNING, max(1, len(text) // 2))] for text in texts)
    return [Prompt(str(number), kind, text, scale.code_tokens) for number, text in enumerate(beginnings)]


def _asked(name: str, scale: Scale) -> list[Prompt]:
    """Questions of a task that comes with the package."""
    lines = [raw for _, raw in read_jsonl(Path(tasks.__file__).with_name(f"{name}.jsonl"))]
    return [
        Prompt(str(number), name, raw["prompt"], scale.answer_tokens, raw["answer"])
        for number, raw in enumerate(spread(lines, scale.answers))
    ]


def _write(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
