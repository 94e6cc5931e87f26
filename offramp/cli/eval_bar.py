"""How far an evaluation is, on stderr: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 5.0
"""Seconds between two lines."""


@contextmanager
def eval_bar(title: str, total: int, done: int) -> Iterator[Callable[[], None]]:
    """Yields what is to be called for every question that is answered."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield _lines(console, title, total, done)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total, completed=done)
        yield lambda: progress.advance(task)


def _lines(console: Console, title: str, total: int, done: int) -> Callable[[], None]:
    said = time.monotonic()

    def advance() -> None:
        nonlocal said, done
        done += 1
        if (now := time.monotonic()) - said >= EVERY:
            said = now
            console.print(f"{title}: {done} of {total} questions", soft_wrap=True)

    return advance
