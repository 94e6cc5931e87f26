"""`offramp convert`: a checkpoint in another form."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def convert(
    source: str,
    out: Path,
    /,
    *,
    tokenizer: Path | None = None,
    dtype: Literal["f32", "bf16", "f16", "int8", "int4"] | None = None,
    max_shard_size: str | None = None,
    lora: Path | None = None,
    to: Literal["folder", "llama2c"] = "folder",
) -> None:
    """Write a checkpoint in another form: number format, quantised, shards, adapter merged, from and to llama2.c.

    One tensor is in memory at a time, and nothing that exists is replaced. From llama2.c's file (version 0) to a
    folder for `offramp generate`, and a LoRA adapter merged:

    ```
    offramp convert stories15M.bin stories15M --tokenizer tokenizer.bin
    offramp convert base merged --lora adapter --dtype bf16 --max-shard-size 2GB
    offramp convert base small --dtype int8
    ```

    Parameters
    ----------
    source
        A checkpoint folder, a Hugging Face hub id, or a file of llama2.c.
    out
        The folder to write (the file, with --to llama2c).
    tokenizer
        The tokenizer.bin that belongs to a file of llama2.c.
    dtype
        Of the weights; int8 and int4 quantise matrices in blocks of 32, for `offramp` alone to read.
        [default: as they are]
    max_shard_size
        2GB, 500MB: the largest file of weights. [default: all in one file]
    lora
        A folder with a LoRA adapter of peft, to be merged into the weights.
    to
        folder (Hugging Face's layout) or llama2c (llama2.c's file, version 0; f32).
    """
    from offramp.cli.conversion import Change, run

    run(source, out, tokenizer, Change(dtype, max_shard_size, lora), to)
