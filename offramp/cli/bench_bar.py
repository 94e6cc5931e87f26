"""How far a bench is, on stderr: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from offramp.bench.rounds import Tick

EVERY = 10.0
"""Seconds between two lines."""


@contextmanager
def bench_bar(total: int) -> Iterator[Tick]:
    """Yields what is to be called before every piece of work, of which there are about so many."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (TextColumn("{task.description:44}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total)
        yield lambda what: progress.update(task, advance=1, description=what)


def _lines(console: Console) -> Tick:
    said = -EVERY

    def tick(what: str) -> None:
        nonlocal said
        if (now := time.monotonic()) - said >= EVERY:
            said = now
            console.print(f"bench: {what}", soft_wrap=True)

    return tick
