"""An engine in a process of its own, which waits until it is its turn: pools, memory and libraries disturb nobody."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import Any

import torch

from offramp.bench.bandwidth import bandwidth
from offramp.bench.bound import Bound
from offramp.bench.contender import Contender, Job, NotRun, Prompt, Turn
from offramp.bench.limits import Limit, seconds_for
from offramp.bench.ours import Mode, Ours
from offramp.errors import OfframpError
from offramp.registry import find

PEERS = "offramp.bench.peers"
PATIENCE = 5.0
"""Seconds that a process may take to end."""


@dataclass(frozen=True)
class Ready:
    """What an engine is, and the most memory that loading it and one turn took, beyond the libraries; None where the
    system does not say."""

    about: str
    memory: int | None


class Worker:
    """A contender's process, as the others see it. Every method waits for the answer, and raises NotRun for a
    contender that cannot do what it is asked, its own failures included, or that does not answer in time: then its
    process is ended."""

    def __init__(self, job: Job, limit: Limit = seconds_for) -> None:
        self._job, self._limit = job, limit
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(job, theirs))
        self._process.start()
        theirs.close()

    def ready(self, prompts: Sequence[Prompt]) -> Ready:
        """After it has loaded and these prompts have warmed it up."""
        return self._ask("ready", prompts)

    def turn(self, prompts: Sequence[Prompt]) -> Turn:
        return self._ask("turn", prompts)

    def bound(self, prompts: Sequence[Prompt]) -> Bound | None:
        return self._ask("bound", prompts)

    def close(self) -> None:
        """It ends by itself when nobody can ask any more; in the middle of a turn it is not waited for."""
        self._pipe.close()
        self._process.join(PATIENCE)
        self._kill()
        self._process.join()

    def _ask(self, what: str, prompts: Sequence[Prompt]) -> Any:
        seconds, asked = self._limit(what, self._job, prompts), monotonic()
        alarm = Timer(seconds, self._kill)  # ends the waiting too: nobody else holds the pipe's other end
        alarm.daemon = True
        alarm.start()
        try:
            self._pipe.send((what, prompts))
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            late = monotonic() - asked >= seconds
            end = f"its process ended ({_end(self._process.exitcode)})"
            raise NotRun(f"no answer within {round(seconds, 1):g} s" if late else end) from None
        finally:
            alarm.cancel()
        if isinstance(answer, NotRun):
            raise answer
        return answer

    def _kill(self) -> None:
        """With the processes that it has started. Nothing where it has ended."""
        if not self._process.is_alive():
            return
        assert self._process.pid
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (AttributeError, ProcessLookupError):  # no groups on this system; it has none of its own yet
            self._process.kill()


def _serve(job: Job, pipe: Connection) -> None:
    """The process: answers until nobody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asks will say so
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # what it starts ends with it
    os.environ["OFFRAMP_THREADS"] = str(job.threads)  # of our kernels
    os.environ["OFFRAMP_CACHE"] = str(job.scratch / "cache")  # drafts are chosen from timings of now
    torch.set_num_threads(job.threads)
    desk: _Desk | None = None
    with suppress(EOFError, OSError):  # the one who asked has gone, perhaps in the middle of an answer
        while True:
            what, prompts = pipe.recv()
            try:
                desk = desk or _Desk(job)
                answer = getattr(desk, what)(prompts)
            except Exception as error:
                answer = error if isinstance(error, NotRun) else NotRun(_reason(error))
            pipe.send(answer)


class _Desk:
    """Answers by what is asked."""

    def __init__(self, job: Job) -> None:
        made = contender_named(job.engine)
        self.before = _status("VmRSS")
        self.job, self.contender = job, made(job)

    def ready(self, prompts: Sequence[Prompt]) -> Ready:
        self.contender.run(prompts)
        peak = _status("VmHWM")
        memory = None if peak is None or self.before is None else peak - self.before
        return Ready(self.contender.about, memory)

    def turn(self, prompts: Sequence[Prompt]) -> Turn:
        turn = self.contender.run(prompts)
        seen = bandwidth(self.job.threads) if self.job.device == "cpu" else None
        return Turn(turn.first, turn.decoded, turn.seconds, turn.tokens, turn.weight_bytes, seen)

    def bound(self, prompts: Sequence[Prompt]) -> Bound | None:
        return self.contender.bound(prompts)


def contender_named(name: str) -> type[Contender]:
    """Ours, or the peer of that file. Raises NotRun where a library that it needs is missing, UnknownName."""
    if Mode.named(name) is not None:
        return Ours
    try:
        return find(PEERS, name, Contender)
    except ModuleNotFoundError as error:
        raise NotRun(f"{error.name} is not installed") from error


def _reason(error: Exception) -> str:
    """What others raise may have many lines."""
    if isinstance(error, OfframpError):
        return str(error)
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def _end(code: int | None) -> str:
    """SIGILL means instructions that this processor lacks, SIGKILL most often memory."""
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _status(name: str) -> int | None:
    """A line of this process's memory status, in bytes; None on systems without."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None
