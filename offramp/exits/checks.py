"""Values that came from a file or a command line: what is not as it must be is a UsageError naming the field."""

from __future__ import annotations

import reprlib
import sys

from offramp.errors import UsageError

LARGEST = 1 << 20
"""No width comes near it, and three of them multiplied still fit the 64 bits in which tensors are counted."""
MOST_EXITS = 1024
"""Far more than any model has blocks, and few enough that what grows with the exits stays small."""


def check(field: str, value: object, right: bool, wanted: str) -> None:
    """Raises UsageError unless the value is `right`."""
    if not right:
        raise UsageError(f"{field} must be {wanted}, not {reprlib.repr(value)}")


def is_count(value: object, most: int = LARGEST, least: int = 1) -> bool:
    """An integer from `least` to `most`."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: object) -> bool:
    """A finite number that a float can hold; `true` is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max
