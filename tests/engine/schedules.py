"""Random legal schedules: any row's turn, any rows together, drafting or not. No row may notice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from offramp.engine.engine import Engine
from offramp.engine.reply import TokenEvent
from offramp.engine.request import Request
from offramp.engine.row import Row
from offramp.engine.scheduler import Deep, Prefill, Shallow, Turn


@dataclass
class RandomTurns:
    """In place of an engine's `scheduler`. drafting: what a shallow round may be told, where the text cannot change."""

    rng: Random
    drafting: tuple[bool, ...] = (True, False)

    def next(self, running: Iterable[Row]) -> Turn | None:
        """A prompt cell of any row, or some of those that can go, or some of those that wait, all equally likely."""
        rows = sorted(running, key=lambda row: row.slot)
        prompts = [row for row in rows if not row.prompted]
        waiting = [row for row in rows if row.prompted and (row.stays or row.full())]
        going = [row for row in rows if row.prompted and not (row.stays or row.full())]
        turns: list[Turn] = []
        if prompts:
            turns.append(Prefill(self.rng.choice(prompts)))
        if waiting:
            turns.append(Deep(self._some(waiting)))
        if going:
            turns.append(Shallow(self._some(going), self.rng.choice(self.drafting)))
        return self.rng.choice(turns) if turns else None

    def _some(self, rows: Sequence[Row]) -> list[Row]:
        """At least one of them, in their order; often few, so that some hurry ahead of others."""
        chosen = set(self.rng.sample(range(len(rows)), self.rng.randint(1, len(rows))))
        return [row for i, row in enumerate(rows) if i in chosen]


def serve(engine: Engine, asked: Iterable[Request]) -> list[list[TokenEvent]]:
    """Each request's events when all of them share the engine; its integrity is checked after every step."""
    events: dict[int, list[TokenEvent]] = {engine.add(request): [] for request in asked}
    while engine.busy:
        for event in engine.step():
            events[event.request].append(event)
        engine.check_integrity()
    assert all(said[-1].finish for said in events.values())
    return list(events.values())
