"""`offramp demo`: a Transformer and a Mamba leaving early, side by side."""

from __future__ import annotations

from pathlib import Path

from offramp.cli.options import Where


def demo(
    *,
    out: Path = Path("demo"),
    checkpoints: Path | None = None,
    seconds: float = 110.0,
    where: Where | None = None,
) -> None:
    """Run both bundled twins on the same prompts in five ways, and show what each gains and loses.

    Parameters
    ----------
    out
        Where the two pictures go.
    checkpoints
        A folder with other checkpoints of the twins. [default: those that come with offramp]
    seconds
        The threshold sweep for the second picture stops when so much time is spent.
    """
    from offramp.cli.demonstration import run

    run(out, checkpoints, seconds, where or Where())
