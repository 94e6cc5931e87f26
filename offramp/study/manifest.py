"""What a study's folder says of itself: its plan, and where and with what it was run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from offramp.errors import DataError
from offramp.files import read_json, write_whole
from offramp.study.results import FORMAT, Job

NAME = "study.json"
LARGEST = 1 << 24


@dataclass(frozen=True)
class Manifest:
    """scale: full or quick.   provenance: for people, see `provenance`."""

    jobs: tuple[Job, ...]
    scale: str
    provenance: Mapping[str, str]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / NAME, json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1))


def read_manifest(folder: Path) -> Manifest:
    """Raises DataError where there is no study, or a damaged one."""
    path = folder / NAME
    if not path.is_file():
        raise DataError(
            f"{folder} holds no study: {NAME} is missing; `offramp study --out {folder}` makes one"
        )
    raw = read_json(path, LARGEST, DataError)
    try:
        if raw["format"] != FORMAT:
            raise ValueError(f"format {raw['format']}")
        found = [Job(**{**job, "needs": tuple(job["needs"])}) for job in raw["jobs"]]
        return Manifest(
            tuple(found), str(raw["scale"]), {str(k): str(v) for k, v in raw["provenance"].items()}
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise DataError(f"{path} is not a study's: {problem!r}") from problem
