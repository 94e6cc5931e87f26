"""`offramp study` and `offramp report`: prepare, show the plan, run it, draw."""

from __future__ import annotations

import importlib.util
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.table import Table

from offramp.cli.failures import FAILED
from offramp.cli.options import Where
from offramp.cli.study_data import Files, from_corpus, from_documents, is_corpus
from offramp.cli.study_options import Extent, Texts
from offramp.engine.load import device_named, load
from offramp.errors import UsageError
from offramp.models.base import Block
from offramp.models.checkpoint import fingerprint
from offramp.native.threads import threads_said, usable_cores
from offramp.study import jobs
from offramp.study.manifest import Manifest, read_manifest, write_manifest
from offramp.study.plan import Source, plan
from offramp.study.provenance import provenance
from offramp.study.report.write import write_report
from offramp.study.results import Job
from offramp.study.scale import QUICK, Scale
from offramp.study.work.context import Place
from offramp.study.work.perform import perform
from offramp.training.checkpoint import sole_writer
from offramp.zoo.bundled import resolve
from offramp.zoo.twins import TWINS


def run(models: Sequence[str], out: Path, texts: Texts, extent: Extent, where: Where) -> int:
    """The whole study, as far as it is not done. Returns the exit code: failed jobs are no success."""
    where.check_trains()
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    began, scale, device = time.monotonic(), _scale(extent), device_named(where.device).type
    processes = extent.processes or (usable_cores() if device == "cpu" else 1)
    folders = _folders(models or tuple(TWINS), texts)
    sources = [_source(name, folder, device, where.dtype) for name, folder in folders.items()]
    show_plan(plan(sources, "", scale), scale, processes, console)
    if extent.dry_run:
        return 0
    with sole_writer(out):  # another one could change what these jobs read
        files = _files(out, texts, scale, console)
        todo = plan(sources, files.sha256(), scale)
        manifest = Manifest(tuple(todo), scale.name, provenance(processes, device, where.dtype))
        write_manifest(out, manifest)
        threads = where.threads or threads_said() or max(1, usable_cores() // processes)
        place = Place(out.resolve(), folders, files.training, files.tune, files.prompts, threads)
        watch = partial(told, console=console, began=began)
        summary = jobs.run(todo, partial(perform, place), out, processes, watch)
        page = _written(out, manifest, console)
    return _ended(summary, page, time.monotonic() - began, console)


def redraw(folder: Path) -> None:
    """Raises DataError where the folder holds no study."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    print(_written(folder, read_manifest(folder), console))


def show_plan(todo: Sequence[Job], scale: Scale, processes: int, console: Console) -> None:
    """How many jobs of each kind, what they take of a core, and about how long it is going to be."""
    table = Table(box=None, pad_edge=False)
    for name in ("kind of job", "jobs", "core minutes"):
        table.add_column(name, justify="left" if name == "kind of job" else "right")
    counts = Counter(job.kind for job in todo)
    for kind, count in counts.items():
        minutes = sum(job.seconds for job in todo if job.kind == kind) / 60
        table.add_row(kind, str(count), f"{minutes:.1f}")
    console.print(table)
    minutes = jobs.expected_seconds(todo, processes) / 60
    console.print(
        f"{scale.name} study: {len(todo)} jobs, about {minutes:.0f} minutes on {processes} idle cores"
    )


def told(update: jobs.Update, console: Console, began: float) -> None:
    """A line for every job that ends now; those that were done before only show in the count."""
    if update.state == "kept":
        return
    minutes = (time.monotonic() - began) / 60
    seconds = f" in {update.seconds:.0f} s" if update.state == "done" else ""
    why = f": {update.why}" if update.why else ""
    console.print(
        f"[{update.done}/{update.total}, {minutes:.1f} min] {update.state} {update.job.name}{seconds}{why}"
    )


def _written(folder: Path, manifest: Manifest, console: Console) -> Path:
    """The report, with pictures where they can be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        console.print("no pictures beside the page: they need pip install 'offramp[plot]'")
        return write_report(folder, manifest)
    from offramp.study.report.pictures import draw

    return write_report(folder, manifest, draw)


def _ended(summary: jobs.Summary, page: Path, seconds: float, console: Console) -> int:
    lost = len(summary.failed) + len(summary.left_out)
    for name, why in summary.failed.items():
        console.print(f"failed: {name}: {why}")
    if lost:
        console.print(
            f"{lost} of {summary.ended} jobs have no result, and the report does without; the same command tries "
            "them again"
        )
    console.print(f"{seconds / 60:.1f} minutes")
    print(page)
    return FAILED if lost else 0


def _scale(extent: Extent) -> Scale:
    scale = QUICK if extent.quick else Scale()
    if extent.processes is not None and extent.processes < 1:
        raise UsageError(f"--processes is {extent.processes}; it must be at least 1")
    if extent.seeds is None:
        return scale
    if extent.seeds < 1:
        raise UsageError(f"--seeds is {extent.seeds}; a study needs at least one")
    return replace(scale, seeds=extent.seeds)


def _folders(models: Sequence[str], texts: Texts) -> dict[str, Path]:
    """The models by name. Raises UsageError for two of one name, and for one that would have nothing to read."""
    named = [(Path(os.path.abspath(model)).name, Path(resolve(model))) for model in models]
    names = [name for name, _ in named]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"two of the models are called {twice[0]}; a study needs a name of its own for each")
    if texts.data is None and (strangers := [name for name in names if name not in TWINS]):
        raise UsageError(f"say which texts {strangers[0]} is to be studied on: --data FILE")
    return dict(named)


def _files(out: Path, texts: Texts, scale: Scale, console: Console) -> Files:
    """What the study reads, made anew each time: it costs seconds, and the options may be others."""
    files = Files(out.resolve() / "data" / scale.name)
    if texts.data is not None and not is_corpus(Path(texts.data)):
        from_documents(files, texts.data, texts.field, scale, texts.max_documents)
        return files
    folder = out.resolve() / "corpus" if texts.data is None else Path(texts.data)
    if not is_corpus(folder):
        console.print("making the bundled models' corpus of the Python library: about a minute")
    from_corpus(files, folder, scale)
    return files


def _source(name: str, folder: Path, device: str, dtype: str) -> Source:
    model = load(folder, "none").model
    size = sum(weight.numel() for weight in model.parameters())
    attends = any(cast(Block, block).mixer.entry_kind is not None for block in model.blocks)
    return Source(name, fingerprint(model), attends, size / 1e6, device, dtype)
