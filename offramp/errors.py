"""Every exception a user can meet, drawn as a tree.

    OfframpError
    ├── UsageError            what was asked for cannot be: an option, a threshold, a prompt     (exit code 2)
    │   └── UnknownName       no plug-in of that name; the text lists those there are
    ├── CheckpointError       a model folder that is missing, damaged, unsafe or of no known family (exit code 1)
    ├── ExitsError            an exits folder that is damaged or belongs to another backbone     (exit code 1)
    ├── DataError             a text or jsonl input that cannot be read                          (exit code 1)
    └── CapacityError         a request that can never fit, or memory that is not there          (exit code 1)
        └── QueueFull         no room for another request now; later there may be

A text says what was wrong and what would have worked. `assert` is for our own mistakes.
"""

from __future__ import annotations


class OfframpError(Exception):
    """Base of every error a user can mend. `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(OfframpError):
    """An option or argument outside what is possible."""

    exit_code = 2


class UnknownName(UsageError):
    """A plug-in (policy, gate, bridge, propagation, model family) that does not exist."""


class CheckpointError(OfframpError):
    """A checkpoint that cannot be loaded safely and completely."""


class ExitsError(OfframpError):
    """An exits folder that is damaged, or was trained for another backbone."""


class DataError(OfframpError):
    """Training or prompt data that cannot be read."""


class CapacityError(OfframpError):
    """A request that can never fit the engine's slots, or slots that do not fit the memory."""


class QueueFull(CapacityError):
    """As many requests are waiting as may; try again later."""
