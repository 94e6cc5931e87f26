"""`offramp demo`: run the showcase under a progress bar, print it, draw it."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from offramp.cli.demo_report import print_report
from offramp.cli.options import Where
from offramp.cli.threads import fix_threads
from offramp.evaluation.wallclock import Tick
from offramp.zoo.bundled import HOME, folder
from offramp.zoo.prompts import load_prompts
from offramp.zoo.showcase.show import TwinReport, pieces_of_work, show
from offramp.zoo.showcase.stage import Stage
from offramp.zoo.twins import TWINS


def run(out: Path, checkpoints: Path | None, seconds: float, where: Where) -> None:
    """The whole demo. Raises CheckpointError where a twin is missing, UsageError for a device that is."""
    fix_threads(where.threads, 1)  # at this size threads wait for each other longer than they work
    console = Console()
    reports = _reports(checkpoints or HOME, seconds, where, Console(stderr=True))
    for report in reports:
        print_report(report, console)
    _draw(reports, out, console)


def _reports(home: Path, seconds: float, where: Where, console: Console) -> list[TwinReport]:
    """Each twin has an equal part of the time."""
    prompts, start = load_prompts(), time.monotonic()
    folders = {twin: folder(twin, home) for twin in TWINS}
    with _bar(console) as progress:
        task = progress.add_task("", total=len(folders) * pieces_of_work(len(prompts)))
        reports = []
        for number, (twin, path) in enumerate(folders.items(), 1):
            deadline = start + seconds * number / len(folders)
            tick = _ticker(progress, task, twin)
            stage = Stage(twin, path, prompts, dtype=where.dtype, device=where.device)
            reports.append(show(stage, tick, deadline))
        progress.update(task, completed=len(folders) * pieces_of_work(len(prompts)), description="done")
    return reports


def _bar(console: Console) -> Progress:
    return Progress(TextColumn("{task.description:42}"), BarColumn(), TimeElapsedColumn(), console=console)


def _ticker(progress: Progress, task: TaskID, twin: str) -> Tick:
    """One step of the bar, and what it is."""

    def tick(what: str) -> None:
        progress.update(task, advance=1, description=f"{twin}: {what}")

    return tick


def _draw(reports: Sequence[TwinReport], out: Path, console: Console) -> None:
    """The two pictures, where matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        console.print(
            "No pictures: matplotlib is not installed. `pip install offramp[plot]` does it.", markup=False
        )
        return
    from offramp.cli.picture_quality import draw_quality
    from offramp.cli.picture_text import draw_text

    draw_text(reports[-1], out / "depth.png")
    draw_quality(reports, out / "quality.png")
    console.print(f"pictures: {out / 'depth.png'}, {out / 'quality.png'}")
