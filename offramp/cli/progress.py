"""A training run's progress bar on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from offramp.training.progress import Callback
from offramp.training.progress import Progress as Report


@contextmanager
def training_bar(title: str) -> Iterator[Callback]:
    """Yields the callback to give to a training run. Without a terminal: one line a report."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield lambda report: console.print(
            f"{title}: step {report.step} of {report.steps}, {losses(report)}", soft_wrap=True
        )
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=None, said="")
        yield lambda report: progress.update(
            task, completed=report.step, total=report.steps, said=losses(report)
        )


def losses(report: Report) -> str:
    """The loss, its parts and the speed."""
    parts = " ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
    return f"loss {report.loss:.3f} {parts} · {report.tokens_per_second:,.0f} tokens/s"
