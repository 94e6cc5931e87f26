"""How many threads a process uses: decided once, because a busy moment later would change it in the middle."""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path
from statistics import median

from offramp.errors import UsageError

LOOKS, PAUSE = 5, 0.002
"""How often, and after how many seconds, it is looked whether others compute."""


def threads_said() -> int | None:
    """OFFRAMP_THREADS, where it is set. Raises UsageError when it is no count."""
    said = os.environ.get("OFFRAMP_THREADS", "")
    if said and not (said.isdecimal() and int(said) > 0):
        raise UsageError(f"OFFRAMP_THREADS is {said!r}; it must be a count of at least 1.")
    return int(said) if said else None


def default_threads() -> int:
    """OFFRAMP_THREADS, else OMP_NUM_THREADS, else the cores this process may use, less one beside a busy process.

    With a thread on every core, one process beside them makes all threads wait at every step for the one it delays.
    """
    common = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # may list nested levels: 4,2
    return threads_said() or (int(common) if common.isdecimal() else 0) or _threads_left()


@cache
def _threads_left() -> int:
    cores = usable_cores()
    return max(1, cores - 1) if _busy(cores) else cores


def usable_cores() -> int:
    """The cores this process may use; not every system can tell them from all there are."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _quota(Path("/sys/fs/cgroup/cpu.max"), cores)))


def _quota(file: Path, cores: int) -> int:
    """The cores a container may keep busy: microseconds it may compute in a period, and the period, or "max"."""
    try:
        most, period = file.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return int(most) // int(period) if most != "max" else cores


def _busy(cores: int) -> bool:
    """Whether more others compute than there are cores we may not use. Where the system does not tell, they may."""
    try:
        others = median(_running() for _ in range(LOOKS)) - 1
    except (OSError, ValueError, IndexError):
        return True
    return others > (os.cpu_count() or 1) - cores


def _running() -> int:
    """Threads of all processes that compute or could, after a pause; this one is among them."""
    time.sleep(PAUSE)
    return int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0])
