"""Strings that end a reply, found wherever the borders between tokens fall."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.errors import UsageError


@dataclass
class StopStrings:
    """Text in, text before the first stop string out. The first is the one that is complete first, so that
    the answer does not depend on how the text was cut; of two complete at once, the longer.

    Text that may be the beginning of a stop string is held back. Everything remembered is immutable.
    """

    stops: tuple[str, ...]
    held: str = ""

    def __post_init__(self) -> None:
        if not all(self.stops):
            raise UsageError("a stop string is empty; give at least one character, or none at all.")

    def push(self, piece: str) -> tuple[str, bool]:
        """The text that is safe to show, and whether a stop string was found (the rest is then forgotten)."""
        window, self.held = self.held + piece, ""
        ends = [(at + len(stop), at) for stop in self.stops if (at := window.find(stop)) >= 0]
        if ends:
            return window[: min(ends)[1]], True
        keep = max((_overlap(window, stop) for stop in self.stops), default=0)
        self.held = window[len(window) - keep :]
        return window[: len(window) - keep], False

    def flush(self) -> str:
        """The text has ended: what was held back was no stop string."""
        text, self.held = self.held, ""
        return text


def _overlap(window: str, stop: str) -> int:
    """The longest end of `window` that is a beginning of `stop`, but not all of it."""
    longest = min(len(window), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if window.endswith(stop[:size])), 0)
