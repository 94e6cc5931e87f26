"""Numbers of options outside their range: refused by the option's name."""

from __future__ import annotations

from offramp.errors import UsageError


def within(option: str, value: float, low: float, high: float) -> None:
    """Raises UsageError for a value of --option outside low to high."""
    if not low <= value <= high:
        raise UsageError(f"--{option} is {value}; it must be from {low} to {high:,}.")
