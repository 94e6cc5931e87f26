"""What a pass costs on this machine: measured once, kept in the user's cache folder, never assumed.

Below the ridge a pass costs its weight reads, whatever it holds; above it every token costs (design section 1).
Where the ridge lies, only a clock knows. The cache is a convenience: a file that is broken, foreign or cannot be
written means measuring again.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from offramp.errors import OfframpError
from offramp.exits.base import Exit
from offramp.files import SMALL, cache_folder, read_json, write_whole
from offramp.models.base import Model
from offramp.models.likeness import likeness

NAME = "timings.json"
FORM = 1
"""Counts the forms that the file has had: another one is not read."""
MOST_ENTRIES = 256
MOST_TOKENS = 1 << 20
"""Of a pass that a file may speak of."""


@dataclass(frozen=True)
class Curve:
    """Seconds that a pass over so many tokens takes: (tokens, seconds) as measured, tokens rising."""

    points: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        assert _sound(self.points)

    def seconds(self, tokens: float) -> float:
        """Straight lines between the points. Before the first a pass costs what it costs there, but nothing for no
        token; behind the last it goes on as it came, though never cheaper."""
        if tokens <= 0:
            return 0.0
        counts = [count for count, _ in self.points]
        if tokens <= counts[0] or len(counts) == 1:
            return self.points[0][1]
        right = min(bisect_left(counts, tokens), len(counts) - 1)
        (low, before), (high, after) = self.points[right - 1 : right + 1]
        if tokens > high:
            return after + max(after - before, 0.0) / (high - low) * (tokens - high)
        share = (tokens - low) / (high - low)
        return (1 - share) * before + share * after


def _sound(points: Sequence[tuple[int, float]]) -> bool:
    counts = [count for count, _ in points]
    rising = bool(counts) and 1 <= counts[0] and counts[-1] <= MOST_TOKENS and counts == sorted(set(counts))
    return rising and all(math.isfinite(seconds) and seconds >= 0 for _, seconds in points)


FREE = Curve(((1, 0.0),))


@dataclass(frozen=True)
class Timings:
    """shallow: segment 0 with its gate, for n tokens · deep: all deeper segments and the head, for n tokens · draft:
    the bridge and the head for n tokens that leave, where `shallow` does not hold them already."""

    shallow: Curve
    deep: Curve
    draft: Curve = FREE


def measure(run: Callable[[int], None], counts: Sequence[int], repeats: int, budget: float = 2.0) -> Curve:
    """The median of `repeats` runs for each count of tokens, after one that warms up.

    The counts, rising, take turns: a machine that is busy for a moment disturbs all of them a little, none of them
    much. Once `budget` seconds are spent no larger count is tried, but two are; after as many again no run is repeated.
    """
    start, tried = perf_counter(), list[int]()
    for count in counts:
        if len(tried) < 2 or perf_counter() - start < budget:
            run(count)
            tried.append(count)
    rounds = [[_seconds(run, count) for count in tried]]
    while len(rounds) < repeats and perf_counter() - start < 2 * budget:
        rounds.append([_seconds(run, count) for count in tried])
    return Curve(
        tuple((count, median(taken)) for count, taken in zip(tried, zip(*rounds, strict=True), strict=True))
    )


def _seconds(run: Callable[[int], None], count: int) -> float:
    start = perf_counter()
    run(count)
    return perf_counter() - start


# ---- the cache


def timings_key(model: Model, exits: Iterable[Exit], bucket: int, slots: int, runner: str = "") -> str:
    """What timings depend on, as 32 hexadecimal digits: the machine, torch, us, the model and its exits, dtypes and
    threads, the tier's bucket, the slots, what runs the modules. Nothing can be read from it."""
    weight = next(model.parameters())
    facts = (
        *(_processor(), _cores(), _device(weight.device)),
        *(torch.__version__, torch.get_num_threads(), version("offramp")),
        *(likeness(model), [(exit.after, likeness(exit)) for exit in exits]),
        *(bucket, slots, runner),
    )
    lasting = re.sub(r" at 0x[0-9a-f]+", "", repr(facts))  # a function's address is another in each process
    return blake2b(lasting.encode(), digest_size=16).hexdigest()


def _processor() -> str:
    """The processor's model name where the system tells it (Linux does), else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else f"{platform.machine()} {platform.processor()}"


def _cores() -> int | None:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def load_timings(key: str) -> Timings | None:
    """What was saved under the key; None where there is nothing to trust."""
    file = _file()
    return _entries(file).get(key) if file else None


def save_timings(key: str, timings: Timings) -> None:
    """Keep timings for the next start, and the newest others. Where the folder cannot be written nothing is kept."""
    file = _file()
    if file is None:
        return
    entries = [item for item in _entries(file).items() if item[0] != key]
    newest = [*entries, (key, timings)][-MOST_ENTRIES:]
    content = {"form": FORM, "entries": {name: _curves(entry) for name, entry in newest}}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(content))
    except OSError:
        return


def _file() -> Path | None:
    """timings.json in the user's cache folder; None where there is none."""
    folder = cache_folder()
    return folder / NAME if folder else None


def _curves(timings: Timings) -> dict[str, object]:
    return {name: curve.points for name, curve in vars(timings).items()}


def _entries(file: Path) -> dict[str, Timings]:
    """The entries that can be read, oldest first."""
    try:
        content = read_json(file, SMALL, OfframpError)
    except OfframpError:
        return {}
    entries = content.get("entries")
    if content.get("form") != FORM or not isinstance(entries, dict):
        return {}
    read = {key: _timings(entry) for key, entry in entries.items()}
    return {key: timings for key, timings in read.items() if timings}


def _timings(entry: Any) -> Timings | None:
    """An entry of the file, or None where it is something else."""
    try:
        curves = {
            name: tuple((int(count), float(seconds)) for count, seconds in points)
            for name, points in entry.items()
        }
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None
    if set(curves) != {"shallow", "deep", "draft"} or not all(map(_sound, curves.values())):
        return None
    return Timings(**{name: Curve(points) for name, points in curves.items()})
