"""`offramp report`: a study's report drawn again from its results."""

from __future__ import annotations

from pathlib import Path


def report(folder: Path, /) -> None:
    """Draw the report of a study again, from whatever results there are.

    Parameters
    ----------
    folder
        What `offramp study --out` wrote.
    """
    from offramp.cli.studying import redraw

    redraw(folder)
