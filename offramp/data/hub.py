"""Data sets of the Hugging Face hub, read as they arrive: `hf:OWNER/NAME[:CONFIG[:SPLIT]]`.

    hf:HuggingFaceFW/fineweb-edu:sample-10BT:train     10 billion tokens of educational web pages
    hf:OWNER/NAME                                      its only configuration, the split "train"

Nothing is downloaded but what is read; whoever stops reading stops the download. A folder OWNER/NAME here comes
first: the library `datasets` has it so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from offramp.data.extras import extra
from offramp.data.record import Record
from offramp.errors import DataError, UsageError

PREFIX = "hf:"
PART = r"\w[\w.-]*"
NAME = re.compile(rf"{PREFIX}({PART}/{PART})(?::({PART})|:(?=:))?(?::({PART}))?", re.ASCII)


@dataclass(frozen=True)
class Remote:
    """A data set's name on the hub; config None is its only one."""

    name: str
    config: str | None = None
    split: str = "train"

    @classmethod
    def parse(cls, text: str) -> Remote:
        """Raises UsageError for what is no name of a data set."""
        found = NAME.fullmatch(text)
        if found is None:
            raise UsageError(
                f"{text[:200]!r} names no data set of the hub: expected hf:OWNER/NAME[:CONFIG[:SPLIT]], "
                "like hf:HuggingFaceFW/fineweb-edu:sample-10BT:train"
            )
        name, config, split = found.groups()
        return cls(name, config, split or "train")


def is_remote(path: object) -> bool:
    """Whether a path is a name on the hub: only where it says so itself (a file may be called ./hf:...)."""
    return str(path).startswith(PREFIX)


def remote_records(name: str) -> Iterator[Record]:
    """Rows, counted from 1, in the data set's order.

    Raises UsageError without the library `datasets`, DataError for what the hub refuses or does not have.
    """
    remote = Remote.parse(name)
    datasets = extra("datasets", "train", "reading a data set of the hub")
    number = 0
    try:
        rows = datasets.load_dataset(remote.name, remote.config, split=remote.split, streaming=True)
        for number, item in enumerate(rows, 1):
            yield Record(number, f"row {number}", item)
    except Exception as error:  # its own, the network's, the formats': there is no common base
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{name} cannot be read after row {number}: {lines[0]}") from error
