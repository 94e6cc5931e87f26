"""`offramp convert` and `offramp export`: which steps a checkpoint goes through, and what was written."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from offramp.convert import llama2c, llama2c_tokenizer
from offramp.convert.depth import truncate
from offramp.convert.dtypes import cast
from offramp.convert.lora import merge, read_adapter
from offramp.convert.source import Source, from_folder
from offramp.convert.write import parse_size, write_folder
from offramp.errors import UsageError
from offramp.models.folder import local_folder
from offramp.zoo.bundled import resolve


@dataclass(frozen=True)
class Change:
    """What becomes of the weights; None: nothing. max_shard: a size as people write it."""

    dtype: str | None = None
    max_shard: str | None = None
    lora: Path | None = None


def run(model: str, out: Path, tokenizer: Path | None, change: Change, to: str) -> None:
    """Convert, and say on stderr what was written.

    Raises UsageError for options that do not go together, and what the steps raise.
    """
    max_shard = None if change.max_shard is None else parse_size(change.max_shard)
    if to == "llama2c" and (change.dtype or max_shard):
        raise UsageError("llama2.c's file is f32 and in one piece: leave out --dtype and --max-shard-size")
    source = _source(model, tokenizer)
    had_exits = _has_exits(source)
    if change.lora is not None:
        source = merge(source, read_adapter(change.lora))
    if to == "llama2c":
        llama2c.write(source, out)
    else:
        source = source if change.dtype is None else cast(source, change.dtype)
        write_folder(source, out, max_shard)
        if had_exits and not _has_exits(source):
            print("the exits were left out: they belong to the weights they were trained on", file=sys.stderr)
    print(f"written to {out}", file=sys.stderr)


def truncated(model: str, out: Path, depth: int) -> None:
    """Write the first `depth` blocks, and say on stderr what they are good for."""
    whole = from_folder(local_folder(resolve(model)))
    write_folder(truncate(whole, depth), out)
    print(
        f"written to {out}: a plain checkpoint of {depth} blocks, which drafts for the whole model in any engine"
        f" that reads Hugging Face's format (transformers: assistant_model)",
        file=sys.stderr,
    )


def _source(model: str, tokenizer: Path | None) -> Source:
    """A file is llama2.c's, anything else a folder, a bundled model or a hub id."""
    if not Path(model).is_file():
        if tokenizer is not None:
            raise UsageError(f"--tokenizer is for a file of llama2.c; {model} brings its own, if it has one")
        return from_folder(local_folder(resolve(model)))
    if tokenizer is None:
        raise UsageError(
            f"{model} is a file: for one of llama2.c say where its tokenizer is: --tokenizer FILE"
        )
    source = llama2c.read(Path(model))
    words = llama2c_tokenizer.files(tokenizer, source.config["vocab_size"])
    return replace(source, files={**source.files, **words})


def _has_exits(source: Source) -> bool:
    return any(name.startswith("exits/") for name in source.files)
