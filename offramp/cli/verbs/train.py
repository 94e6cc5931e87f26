"""`offramp train`: exits for any checkpoint; its weights stay as they are."""

from __future__ import annotations

from pathlib import Path

from offramp.cli.options import Where
from offramp.cli.train_options import Recipe, Shape


def train(
    model: str,
    /,
    *,
    data: Path,
    out: Path | None = None,
    shape: Shape | None = None,
    recipe: Recipe | None = None,
    where: Where | None = None,
) -> int:
    """Train exits for a checkpoint. Ctrl-C saves; the same command resumes.

    Parameters
    ----------
    model
        A checkpoint folder or a Hugging Face hub id.
    data
        Text to learn from: a file, a .jsonl file with a "text" in every line, or a folder of them.
    out
        The exits folder to write. [default: MODEL/exits/GATE, where `generate` finds it]
    """
    from offramp.cli.training import train_exit_set

    return train_exit_set(model, data, out, shape or Shape(), recipe or Recipe(), where or Where())
