"""How far a calibration is, on stderr: a bar on a terminal, else a line for every step that is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from offramp.calibration.calibrate import Progress as Report


@contextmanager
def calibration_bar() -> Iterator[Report]:
    """Yields the callback to give to `calibrate`."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield (
            lambda name, done, count: (
                console.print(f"{name}: {count} documents", soft_wrap=True) if done == count else None
            )
        )
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda name, done, count: progress.update(task, description=name, completed=done, total=count)
