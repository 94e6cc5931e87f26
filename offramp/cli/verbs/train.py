"""`offramp train`: exits for any checkpoint, whose weights stay as they are; or a new backbone."""

from __future__ import annotations

from pathlib import Path

from offramp.cli.data_options import Data
from offramp.cli.options import Where
from offramp.cli.train_options import Learning, Shape


def train(
    model: str,
    /,
    *,
    data: Data,
    out: Path | None = None,
    dry_run: bool = False,
    track: str | None = None,
    shape: Shape | None = None,
    learning: Learning | None = None,
    where: Where | None = None,
) -> int:
    """Train exits for a checkpoint. Ctrl-C saves; the same command resumes.

    Parameters
    ----------
    model
        A checkpoint folder or a Hugging Face hub id.
    out
        The folder to write. [default: MODEL/exits/GATE or MODEL/exits/RECIPE, where `generate` finds it]
    dry_run
        Train nothing: say how large it is and what it would take.
    track
        Send losses to a tracker too: tensorboard, trackio, ...
    """
    from offramp.cli.training import Asked, train_by_recipe

    asked = Asked(model, data, out, shape or Shape(), learning or Learning(), where or Where(), track)
    return train_by_recipe(asked, dry_run)
