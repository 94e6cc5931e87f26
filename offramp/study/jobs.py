"""The runner of a study: jobs in processes of their own, longest first, each result kept the moment it is there.

A job that fails loses itself and those that need it; a process that dies, the jobs that were running then.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path

from offramp.files import write_whole
from offramp.study.results import Found, Job, Result, in_order, keys, read_result, result_file, write_result

TRIES = 2
"""How often a job may be running when a process dies: any of those running may be why."""

Work = Callable[[Job, str, Mapping[str, Found]], Found]
"""(job, its hash, what the jobs it needs found) -> what it found. A picklable function of the module's top level."""


@dataclass(frozen=True)
class Update:
    """Told whenever a job ends. state: kept (it was there), done, failed, left out (what it needs failed)."""

    job: Job
    state: str
    done: int
    total: int
    seconds: float = 0.0
    why: str = ""


Watch = Callable[[Update], None]


@dataclass
class Summary:
    """What a run did, by job name. failed: why, in a line."""

    results: dict[str, Result] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        return len(self.results) + len(self.failed) + len(self.left_out)


@dataclass(frozen=True)
class _Ended:
    """What a process sends back: one of the two."""

    result: Result | None = None
    why: str = ""


def run(jobs: Sequence[Job], work: Work, folder: Path, processes: int, watch: Watch) -> Summary:
    """Run what has no result in `folder` yet; return the results of all."""
    return _Run(in_order(jobs), keys(jobs), work, folder, processes, watch).all()


def critical_path(jobs: Iterable[Job]) -> dict[str, float]:
    """By name: the seconds from a job's start to the end of the longest chain that waits for it."""
    order = in_order(jobs)
    after: dict[str, float] = {job.name: 0.0 for job in order}
    whole: dict[str, float] = {}
    for job in reversed(order):
        whole[job.name] = job.seconds + after[job.name]
        for name in job.needs:
            after[name] = max(after[name], whole[job.name])
    return whole


def expected_seconds(jobs: Sequence[Job], processes: int) -> float:
    """About how long a study takes: no shorter than its work over all processes, nor than its longest chain."""
    company = [job for job in jobs if not job.alone]
    alone = sum(job.seconds for job in jobs if job.alone)
    longest = max(critical_path(company).values(), default=0.0)
    return max(sum(job.seconds for job in company) / processes, longest) + alone


class _Run:
    """The mutable part of a run."""

    def __init__(
        self, order: list[Job], keys: dict[str, str], work: Work, folder: Path, processes: int, watch: Watch
    ) -> None:
        self.order, self.keys, self.work, self.folder = order, keys, work, folder
        self.processes, self.watch = processes, watch
        self.summary = Summary()
        self.length = critical_path(order)
        self.tries: dict[str, int] = {}
        self.running: dict[Future[_Ended], Job] = {}
        self.pool: ProcessPoolExecutor | None = None

    def all(self) -> Summary:
        for job in self.order:
            if (result := read_result(self.folder, job.name, self.keys[job.name])) is not None:
                self._ended(job, "kept", result=result)
        try:
            while self._submit() or self.running:
                ended, _ = wait(self.running, return_when=FIRST_COMPLETED)
                for future in ended:
                    self._take(future)
        except BaseException:
            for child in multiprocessing.active_children():
                child.terminate()
            raise
        finally:
            if self.pool is not None:
                self.pool.shutdown(wait=True, cancel_futures=True)
        return self.summary

    def _submit(self) -> bool:
        """Start what may start; whether anything is left to do."""
        self._leave_out()
        while len(self.running) < self.processes and (job := self._next()) is not None:
            needed = {name: self.summary.results[name].found for name in job.needs}
            try:
                self.pool = self.pool or _pool(self.processes)
                with _deaf():
                    future = self.pool.submit(_one, self.work, job, self.keys[job.name], needed, self.folder)
            except BrokenProcessPool:  # noticed before what was running has told of it
                self.pool = None
                break
            self.running[future] = job
        return self.summary.ended < len(self.order)

    def _next(self) -> Job | None:
        """Of the jobs that may start now the one with the longest chain behind it; those to be alone come last."""
        ready = [job for job in self._waiting() if self.summary.results.keys() >= set(job.needs)]
        if any(job.alone for job in self.running.values()):
            return None
        company = [job for job in ready if not job.alone]
        if company:
            return max(company, key=lambda job: self.length[job.name])
        nobody = not self.running
        return ready[0] if ready and nobody else None

    def _waiting(self) -> list[Job]:
        busy = {job.name for job in self.running.values()}
        done = self.summary.results.keys() | self.summary.failed.keys() | self.summary.left_out.keys()
        return [job for job in self.order if job.name not in busy and job.name not in done]

    def _leave_out(self) -> None:
        """Give up what needs a job that failed; `order` has those it needs first."""
        for job in self._waiting():
            bad = self.summary.failed.keys() | self.summary.left_out.keys()
            if lost := [name for name in job.needs if name in bad]:
                self._ended(job, "left out", why=f"{lost[0]} failed")

    def _take(self, future: Future[_Ended]) -> None:
        job = self.running.pop(future)
        try:
            ended = future.result()
        except BrokenProcessPool:
            self._broken(job)
            return
        if ended.result is None:
            self._ended(job, "failed", why=ended.why)
        else:
            self._ended(job, "done", result=ended.result)

    def _broken(self, job: Job) -> None:
        """A process died, and with it the pool. The job may not be why: it has another chance."""
        self.pool = None
        self.tries[job.name] = self.tries.get(job.name, 0) + 1
        if self.tries[job.name] >= TRIES:
            self._ended(job, "failed", why="its process died, perhaps for want of memory")

    def _ended(self, job: Job, state: str, result: Result | None = None, why: str = "") -> None:
        if result is not None:
            self.summary.results[job.name] = result
        elif state == "failed":
            self.summary.failed[job.name] = why
        else:
            self.summary.left_out[job.name] = why
        seconds = result.seconds if result else 0.0
        self.watch(Update(job, state, self.summary.ended, len(self.order), seconds, why))


def _pool(processes: int) -> ProcessPoolExecutor:
    """Fresh interpreters: a forked one would inherit torch's threads half alive."""
    spawn = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # at its start it would undo `_deaf`
    return ProcessPoolExecutor(processes, mp_context=spawn, initializer=_begin)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that begin in the block do not hear Ctrl-C: their parent does, and ends them without a word."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Of every process: no life beyond its parent's."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _one(work: Work, job: Job, key: str, needed: Mapping[str, Found], folder: Path) -> _Ended:
    """One job in its process. Every way to fail but an interrupt becomes a line, and a file that tells it whole."""
    began = time.process_time()
    story = result_file(folder, job.name, key).with_suffix(".error.txt")
    try:
        found = work(job, key, needed)
        result = Result(job.name, job.kind, job.settings, found, time.process_time() - began)
        write_result(folder, key, result)
        story.unlink(missing_ok=True)
        return _Ended(result)
    except Exception as error:
        story.parent.mkdir(parents=True, exist_ok=True)
        write_whole(story, traceback.format_exc())
        lines = str(error).splitlines() or [""]
        return _Ended(why=f"{type(error).__name__}: {lines[0]}")
