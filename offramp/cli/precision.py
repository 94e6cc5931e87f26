"""`offramp inspect --quality`: what fewer bits cost a model, beside what they save."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from offramp.cli.data_options import Data
from offramp.cli.harmless import harmless
from offramp.cli.inspection import size_said
from offramp.cli.options import Where
from offramp.cli.threads import use_threads
from offramp.engine.load import Checkpoint
from offramp.errors import CheckpointError
from offramp.evaluation.precision import Foreseen, Read, foresee, read_texts
from offramp.models.base import Model
from offramp.models.quantised import bits_of
from offramp.zoo.bundled import load
from offramp.zoo.prompts import load_prompts

FORMATS = ("f32", "bf16", "int8", "int4")
"""The first is what the others are compared with."""
MOST = 200
"""Texts that are read where nobody says how many."""


@dataclass(frozen=True)
class Line:
    """One number format. weight_bytes: of all that the model keeps. agreement: with the first format's choices."""

    format: str
    weight_bytes: int
    bits_per_byte: float
    agreement: float


@dataclass(frozen=True)
class Quality:
    """What was read, and what each format made of it."""

    model: str
    texts: int
    bytes: int
    tokens: int
    formats: tuple[Line, ...]


def run(model: str, data: Data | None, as_json: bool, where: Where) -> None:
    """The table, or one JSON object, on stdout; progress on stderr. Raises the library's errors."""
    found = quality(model, data, where)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    Console(highlight=False, markup=False).print(table(found))


def quality(model: str, data: Data | None, where: Where) -> Quality:
    """One format in memory at a time. Raises CheckpointError for no tokenizer, and for quantised weights."""
    read, lines, first = None, list[Line](), None
    for format in FORMATS:
        print(f"{model} as {format}", file=sys.stderr, flush=True)
        checkpoint = load(model, "none", dtype=format)
        use_threads(checkpoint.model, where.threads)
        read = read or _read(checkpoint, data)
        found = foresee(checkpoint.model, read)
        first = first or found
        lines.append(_line(format, checkpoint.model, read, found, first))
        del checkpoint
    assert read is not None
    return Quality(model, read.texts, read.size, read.tokens, tuple(lines))


def _read(checkpoint: Checkpoint, data: Data | None) -> Read:
    if checkpoint.text is None:
        raise CheckpointError(f"{checkpoint.folder} has no tokenizer.json, so it cannot read texts.")
    if bits := bits_of(checkpoint.model):
        raise CheckpointError(
            f"{checkpoint.folder} holds {bits.value} weights; what they cost shows beside the checkpoint that they "
            "were made of: name that one."
        )
    texts = [item.text for item in data.read(MOST)] if data else list(_bundled())
    return read_texts(texts, checkpoint.text, checkpoint.model.config.context_length)


def _bundled() -> Iterator[str]:
    """The prompts that come with the package, with their answers."""
    return (prompt.prompt + (prompt.answer or "") for prompt in load_prompts())


def _line(format: str, model: Model, read: Read, found: Foreseen, first: Foreseen) -> Line:
    kept = sum(weight.nbytes for weight in model.parameters())
    return Line(format, kept, found.per_byte(read), found.agreement(first))


def table(found: Quality) -> Table:
    made = Table("format", title=harmless(f"{found.model}: what fewer bits cost"))
    first = found.formats[0]
    for name in ("weights", "bits per byte", "more", f"agrees with {first.format}"):
        made.add_column(name, justify="right")
    for line in found.formats:
        more = line.bits_per_byte / first.bits_per_byte - 1
        made.add_row(
            line.format,
            size_said(line.weight_bytes),
            f"{line.bits_per_byte:.4f}",
            f"{more:+.2%}" if line is not first else "",
            f"{line.agreement:.2%}" if line is not first else "",
        )
    made.caption = (
        f"{found.texts:,} texts, {found.bytes:,} bytes, {found.tokens:,} tokens · agrees: chooses the same token after "
        "the same text"
    )
    return made
