"""`offramp study`: which gate, on which model, saves how much at what quality."""

from __future__ import annotations

from pathlib import Path

from offramp.cli.options import Where
from offramp.cli.study_options import Extent, Texts


def study(
    *models: str,
    out: Path = Path("study"),
    texts: Texts | None = None,
    extent: Extent | None = None,
    where: Where | None = None,
) -> int:
    """Compare gates, bridges, propagations and policies on one or more models, and write a report.

    A study that was stopped goes on: the same command runs only what has no result yet. The report is in
    OUT/report: open report.html.

    Parameters
    ----------
    models
        Checkpoint folders or Hugging Face hub ids. [default: both bundled models]
    out
        Where results, weights and the report go.
    """
    from offramp.cli.studying import run

    return run(models, out, texts or Texts(), extent or Extent(), where or Where())
