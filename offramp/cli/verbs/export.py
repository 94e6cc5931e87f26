"""`offramp export`: the first blocks of a model, as a model of its own."""

from __future__ import annotations

from pathlib import Path


def export(model: str, out: Path, /, *, depth: int) -> None:
    """Write the first blocks of a model as a checkpoint of its own, to draft for the whole one in any engine.

    It keeps these blocks, the norm, the head and the tokenizer: a plain Hugging Face checkpoint for the draft model
    of transformers, vLLM or llama.cpp. Its logits are the logit lens of the whole model at that depth.

    ```
    offramp export llama-8b llama-8b-first-8 --depth 8
    ```

    Parameters
    ----------
    model
        A checkpoint folder or a Hugging Face hub id.
    out
        The folder to write. Nothing that exists is replaced.
    depth
        How many blocks to keep: 1 to all but one.
    """
    from offramp.cli.conversion import truncated

    truncated(model, out, depth)
