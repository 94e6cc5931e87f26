"""Small files read within limits; files and folders written complete or not at all, whenever the power goes.

Errors are raised as the class the caller names: what a file is missing for is the caller's knowledge.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from offramp.errors import OfframpError

SMALL = 1 << 20
"""Bytes: a limit that no configuration written for a purpose comes near."""
TEMPORARY = re.compile(r"\..+\.(\d{1,9})\.(new|old|gone)")
"""The names files and folders have on their way in and out; the number is the writing process's."""


def read_text(path: Path, limit: int, error: type[OfframpError]) -> str:
    """The UTF-8 text in `path`.

    Raises `error`, naming the file, when it is missing, no regular file (a pipe would block, a device never
    end), longer than `limit` bytes, unreadable or not UTF-8.
    """
    try:
        if path.exists() and not path.is_file():
            raise error(f"{path} cannot be read: it is not a regular file")
        with path.open("rb") as file:
            raw = file.read(limit + 1)
        if len(raw) > limit:
            raise error(f"{path} is larger than {limit:,} bytes, the most it may have")
        return raw.decode("utf-8")
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror}") from problem
    except ValueError as problem:
        raise error(f"{path} cannot be read as UTF-8 text: {problem}") from problem


def read_json(path: Path, limit: int, error: type[OfframpError]) -> dict[str, Any]:
    """The JSON object in `path`. Raises `error` as `read_text` does, and for what is not JSON or no object."""
    text = read_text(path, limit, error)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} cannot be read as JSON: {problem}") from problem
    if not isinstance(value, dict):
        raise error(f"{path} must hold a JSON object")
    return value


def cache_folder() -> Path | None:
    """$OFFRAMP_CACHE, else $XDG_CACHE_HOME/offramp, else ~/.cache/offramp; None: no home. It may not be there yet."""
    if own := os.environ.get("OFFRAMP_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(shared) if os.path.isabs(shared) else Path.home() / ".cache") / "offramp"
    except RuntimeError:
        return None


def in_the_way(folder: Path, files: Collection[str], beside: Collection[str] = ()) -> str:
    """Why a folder of `files` must not take the place of `folder`, in a few words; "" where it may.

    It may where there is nothing yet, an empty folder, or one that holds exactly these files, and perhaps others
    named `beside`.
    """
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        return f"{nearest.name} is a file"
    found = {path.name: path.is_file() for path in folder.iterdir()} if nearest == folder else {}
    found = {name: is_file for name, is_file in found.items() if name not in beside or not is_file}
    if not found or found == dict.fromkeys(files, True):
        return ""
    more = ", ..." if len(found) > 3 else ""
    return f"it holds {', '.join(sorted(found)[:3])}{more}"


@contextmanager
def whole_folder(folder: Path, files: Collection[str], beside: Collection[str] = ()) -> Iterator[Path]:
    """A temporary folder to fill with `files`; it takes the place of `folder` when the block ends well.

    Files named `beside` that the old folder holds are kept.

    Every file is on the disk before the name is: a reader meets the old folder, the new one, or, for the
    moment between the two renames, none; never half of one.
    Raises OfframpError, before anything is written, where something else is in the way.
    """
    folder = Path(folder).resolve()
    _restore(folder, files)
    if why := in_the_way(folder, files, beside):
        raise OfframpError(f"{folder} is not replaced: {why}; name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_stale(folder.parent, glob.escape(folder.name))
    fresh = _temporary(folder, "new")
    fresh.mkdir()
    try:
        yield fresh
        for name in beside:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, fresh / name)
        for path in (*fresh.rglob("*"), fresh):
            sync(path)
        _take_place(fresh, folder)
    finally:
        _remove(fresh)


def _take_place(fresh: Path, folder: Path) -> None:
    """Rename `fresh` to `folder`. The old one goes last: whatever fails, one of the two is there."""
    stale = _temporary(folder, "old")
    if folder.exists():
        folder.rename(stale)
    fresh.rename(folder)
    sync(folder.parent)
    _remove(stale)


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """The name of a temporary file to write; it takes the place of `path` when the block ends well."""
    fresh = _temporary(path, "new")
    try:
        yield fresh
        sync(fresh)
        fresh.replace(path)
        sync(path.parent)
    finally:
        fresh.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Replace a small text file in one step."""
    with replacement(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A temporary file to fill; it gets the name `path` when the block ends well.

    Raises OfframpError, before anything is written, where something has that name.
    """
    if path.exists() or path.is_symlink():
        raise OfframpError(f"{path} is not replaced: it exists; name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacement(path) as fresh, fresh.open("wb") as file:
        yield file


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Take a folder away in one step: whoever is killed while deleting leaves no half of it under its name."""
    gone = _temporary(folder, "gone")
    folder.rename(gone)
    sync(folder.parent)
    _remove(gone)


def clear_stale(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left in `folder` on the way to or from files called `name` (a glob).

    What belongs to another process that still runs stays.
    """
    for path in folder.glob(f".{name}.*.*"):
        if _is_stale(path):
            _remove(path)


def _restore(folder: Path, files: Collection[str]) -> None:
    """Give a folder its name back whose writer was killed between the two renames of `_take_place`."""
    if folder.exists() or not folder.parent.is_dir():
        return
    for old in folder.parent.glob(f".{glob.escape(folder.name)}.*.old"):
        if _is_stale(old) and all((old / name).is_file() for name in files):
            old.rename(folder)
            return


def _is_stale(path: Path) -> bool:
    """Whether a temporary name is of a process that is gone, or of one that had our number before us."""
    match = TEMPORARY.fullmatch(path.name)
    if not match:
        return False
    number = int(match[1])
    try:
        os.kill(number, 0)  # sends nothing: it asks whether there is such a process
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return number == os.getpid()


def _temporary(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{kind}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
