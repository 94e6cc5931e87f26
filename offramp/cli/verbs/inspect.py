"""`offramp inspect`: what a checkpoint is made of."""

from __future__ import annotations

from offramp.cli.options import Where


def inspect(model: str, /, *, json: bool = False, where: Where | None = None) -> None:
    """Say what a checkpoint is made of: family, blocks, exits, where the bytes are, what leaving saves.

    Parameters
    ----------
    model
        A checkpoint folder or a Hugging Face hub id.
    json
        One JSON object on stdout instead of tables.
    """
    from offramp.cli.inspection import run

    run(model, json, where or Where())
