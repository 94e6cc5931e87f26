"""What a study is made of: jobs, and what each found, one small file a job.

A result's file is named after a hash of everything that decides what is in it: a study that is started again takes
what is there, and nothing of another study.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from offramp.errors import DataError
from offramp.files import read_json, write_whole

FORMAT = 1
LARGEST = 1 << 28
"""Bytes of one result."""

Found = Mapping[str, Any]
"""What a job found: JSON."""


@dataclass(frozen=True)
class Job:
    """One piece of a study.

    kind: what does it (see `work`).   settings: everything that decides its result but what it needs.
    needs: names of the jobs whose results it reads.   seconds: about what it takes of one core.
    alone: nothing may run beside it, since it measures time.
    """

    name: str
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    seconds: float = 1.0
    alone: bool = False


@dataclass(frozen=True)
class Result:
    """What a job found, and how many seconds of a core it took."""

    name: str
    kind: str
    settings: Mapping[str, Any]
    found: Found
    seconds: float


def keys(jobs: Iterable[Job]) -> dict[str, str]:
    """The content hash of every job, by name: of its kind, its settings, and the hashes of what it needs."""
    found: dict[str, str] = {}
    for job in in_order(jobs):
        parts = [FORMAT, job.kind, job.settings, [found[name] for name in job.needs]]
        found[job.name] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]
    return found


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """The jobs, each after those it needs. Raises DataError where that cannot be."""
    left, order, known = list(jobs), list[Job](), set[str]()
    if len({job.name for job in left}) < len(left):
        raise DataError("two jobs have one name")
    while left:
        ready = [job for job in left if known.issuperset(job.needs)]
        if not ready:
            raise DataError(f"jobs need what is not planned: {[job.name for job in left][:3]}")
        order += ready
        known |= {job.name for job in ready}
        left = [job for job in left if job.name not in known]
    return order


def slug(name: str) -> str:
    """A job's name as a file's."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name)


def result_file(folder: Path, name: str, key: str) -> Path:
    return folder / "results" / f"{slug(name)}.{key}.json"


def write_result(folder: Path, key: str, result: Result) -> None:
    """Write the result whole or not at all."""
    path = result_file(folder, result.name, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"format": FORMAT, **asdict(result)}, allow_nan=False, sort_keys=True))


def read_result(folder: Path, name: str, key: str) -> Result | None:
    """The job's result; None where there is none yet. Raises DataError for a file that is no result."""
    path = result_file(folder, name, key)
    if not path.is_file():
        return None
    raw = read_json(path, LARGEST, DataError)
    wanted = {"name": str, "kind": str, "settings": dict, "found": dict, "seconds": int | float}
    wrong = [key for key, kind in wanted.items() if not isinstance(raw.get(key), kind)]
    if wrong or raw.get("format") != FORMAT:
        raise DataError(f"{path} is no result of a study: {', '.join(wrong) or 'another format'}; delete it")
    return Result(**{key: raw[key] for key in wanted})
