"""`offramp bench`: full depth, exits and other engines side by side, in turns."""

from __future__ import annotations

from pathlib import Path

from offramp.cli.bench_options import Exits, Race
from offramp.cli.options import Where


def bench(
    model: str | None = None,
    /,
    *,
    random: str | None = None,
    json: Path | None = None,
    plot: Path | None = None,
    race: Race | None = None,
    exits: Exits | None = None,
    where: Where | None = None,
) -> None:
    """Time full depth, exits and other engines in interleaved rounds, with a control.

    Parameters
    ----------
    model
        A checkpoint folder or a Hugging Face hub id.
    random
        Instead of MODEL: random weights of a shape: llama-100m, mamba-100m, mamba2-100m, llama-1b, mamba-1b, mamba2-1b.
    json
        A file for all figures.
    plot
        A picture of the ratios, .png or .svg.
    """
    from offramp.cli.bench_running import Asked, run

    run(Asked(model, random, race or Race(), exits or Exits(), where or Where(), json, plot))
