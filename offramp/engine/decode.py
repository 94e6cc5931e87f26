"""THE loop. A row's newest token goes down, segment by segment, until an exit lets it leave or the last one speaks.

Everything Offramp does is this walk: `verify`, `defer`, `project` and `skip` differ in what `Frontier.leave` gives
the deeper segments and in whether the last segment judges what left. Rows walk together: those that leave drop out,
those that stay wait for a deep pass that takes them all. The schedule decides when a row walks; the row alone decides
what happens to it (design section 1).

Rows are always given in the order of their slots. Shapes: R rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from offramp.engine.consider import alike, consider
from offramp.engine.frontier import Frontier
from offramp.engine.judge import conclude
from offramp.engine.reply import TokenEvent
from offramp.engine.ring import pick
from offramp.engine.row import Row
from offramp.mixers.base import CELL


def prefill(frontier: Frontier, row: Row) -> Tensor:
    """The next prompt cell at full depth; after the prompt's last the logits `[V]`."""
    start = row.prefilled
    row.prefilled = min(start + CELL, len(row.request.prompt))
    cell = row.request.prompt[start : row.prefilled]
    return frontier.prefill(row.slot, cell, more=not row.prompted)


def shallow(frontier: Frontier, rows: Sequence[Row], drafting: bool) -> list[TokenEvent]:
    """Each row's newest token through the first segment. Without drafting, rows that are judged stay."""
    frontier.feed([row.slot for row in rows], [row.tokens[-1] for row in rows])
    staying, events = _segment(frontier, 0, rows, drafting)
    for row in staying:
        row.stays = True
    return events


def deep(frontier: Frontier, rows: Sequence[Row]) -> list[TokenEvent]:
    """Everything that waits behind the first exit, down until it leaves or the last segment speaks.

    Rows whose drafts fill them are judged without their newest draft being consumed.
    """
    events: list[TokenEvent] = []
    for s in range(1, len(frontier.segments)):
        if rows:
            rows, said = _segment(frontier, s, rows, drafting=False)
            events += said
    return events


def _segment(
    frontier: Frontier, s: int, rows: Sequence[Row], drafting: bool
) -> tuple[list[Row], list[TokenEvent]]:
    """One segment for rows that owe it something: those that stay, and what became final."""
    passed = frontier.run(s, [row.slot for row in rows])
    if s == len(frontier.exits):
        return [], conclude(frontier, rows, passed)
    final = [i for i, row in enumerate(rows) if not row.propagation.judged]
    frontier.commit(s, [rows[i].slot for i in final], [passed.n[i] for i in final])
    choices = consider(frontier, s, rows, passed, drafting)
    for leaving in alike(choices, key=lambda i: rows[i].request.propagation):
        slots = [rows[i].slot for i in leaving]
        frontier.leave(s, pick(passed.leaving_RD, leaving), slots, rows[leaving[0]].propagation)
    events = [event for i, choice in choices.items() for event in rows[i].leave(choice, frontier.depth(s))]
    return [row for i, row in enumerate(rows) if i not in choices], events
