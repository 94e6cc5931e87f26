"""The file that bulk generation writes to: opened once, and by one run at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from offramp.errors import DataError, UsageError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def sole_writer(path: Path) -> Iterator[BinaryIO]:
    """The file, made where it is missing, to be read and appended to; no other run can have it in the block.

    Where the block fails before anything is written, a new file is taken away again.
    Raises DataError for what is no regular file, UsageError where another run has it, OSError where it cannot be
    opened or made.
    """
    new = not path.exists()
    if not new and not path.is_file():
        raise DataError(f"{path} is not a regular file; nothing can be continued there.")
    with path.open("a+b") as file:
        _lock(file, path)
        try:
            yield file
        except BaseException:
            if new and os.fstat(file.fileno()).st_size == 0:
                path.resolve().unlink(missing_ok=True)
            raise


def _lock(file: BinaryIO, path: Path) -> None:
    """Held until the file is closed. Where system or file system have no locks, nothing is."""
    taken = UsageError(
        f"another run is writing there: {path}. Let it end, or name another file for this one."
    )
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise taken from None
    except OSError:  # a file system without locks
        return
    if not (path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())):
        raise taken  # its owner took it away before it was ours
