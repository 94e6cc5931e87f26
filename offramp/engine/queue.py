"""Requests that wait for a slot: bounded, first come first served within a priority, and none waits for ever."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.engine.request import Request
from offramp.engine.row import Shared
from offramp.errors import QueueFull

FAIR = 8
"""Every so many admissions the request that has waited longest begins, whatever its priority."""


@dataclass(frozen=True)
class Waiting:
    """A request and its number. shared: what samples of one prompt know of it."""

    number: int
    request: Request
    shared: Shared | None = None


class Queue:
    """limit: how many requests may wait."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._items: list[Waiting] = []  # in the order of their coming
        self._admissions = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, number: int) -> bool:
        return any(item.number == number for item in self._items)

    def check_room(self, count: int, soon: int) -> None:
        """Raises QueueFull where so many more may not wait. soon: how many leave with the next turn."""
        if len(self) + count > self.limit + soon:
            raise QueueFull(
                f"{len(self)} requests are waiting and the queue holds {self.limit}: no room for {count} more. Add it "
                "again once some have ended, or give the engine a longer queue."
            )

    def put(self, item: Waiting) -> None:
        self._items.append(item)

    def take(self) -> Waiting:
        """The next to begin: of the lowest priority number the one that came first; in turn, the oldest of all."""
        self._admissions += 1
        oldest = self._admissions % FAIR == 0
        best = self._items[0] if oldest else min(self._items, key=lambda item: item.request.priority)
        self._items.remove(best)
        return best

    def forget(self, number: int) -> None:
        self._items = [item for item in self._items if item.number != number]
