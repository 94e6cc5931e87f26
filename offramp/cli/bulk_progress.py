"""How far a bulk run is, on stderr: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from offramp.engine.reply import TokenEvent

EVERY = 5.0
"""Seconds between two lines."""


@dataclass
class Tally:
    """lines, errors: in the output; kept: those of them that an earlier run wrote. tokens: of this run; depths: the
    sum of theirs."""

    total: int
    kept: int
    lines: int
    errors: int
    blocks: int
    tokens: int = 0
    depths: int = 0
    started: float = field(default_factory=lambda: time.monotonic())

    def count(self, events: Sequence[TokenEvent]) -> None:
        depths = [event.depth for event in events if event.token >= 0]
        self.tokens += len(depths)
        self.depths += sum(depths)

    def speed(self) -> str:
        """Tokens a second since this run began, and their mean depth."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        if not self.tokens:
            return "0 tokens/s"
        depth = self.depths / self.tokens
        return f"{self.tokens / seconds:,.1f} tokens/s · mean depth {depth:.1f} of {self.blocks}"

    def left(self) -> str:
        """How long it will take if it goes on so; "" while nobody knows."""
        new = self.lines - self.kept
        if not new or self.lines == self.total:
            return ""
        seconds = (time.monotonic() - self.started) / new * (self.total - self.lines)
        return f" · about {_spoken(seconds)} left"

    def said(self) -> str:
        errors = f" · errors: {self.errors}" if self.errors else ""
        return f"{self.speed()}{self.left()}{errors}"


def _spoken(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def bulk_bar(tally: Tally) -> Iterator[Callable[[], None]]:
    """Yields what is to be called whenever the tally has changed."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield _lines(tally, console)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=tally.total, completed=tally.lines, said="")
        yield lambda: progress.update(task, completed=tally.lines, said=tally.said())


def _lines(tally: Tally, console: Console) -> Callable[[], None]:
    said = tally.started

    def say() -> None:
        nonlocal said
        if (now := time.monotonic()) - said >= EVERY:
            said = now
            console.print(f"{tally.lines} of {tally.total} lines · {tally.said()}", soft_wrap=True)

    return say
