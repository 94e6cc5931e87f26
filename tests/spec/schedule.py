"""Random schedules: any order, any subset, any depth. No row may notice."""

from collections.abc import Callable, Sequence
from random import Random

from .row import Row

After = Callable[[Row], None]


def nothing(row: Row) -> None:
    """The default for what is done after each visit."""


def finish(row: Row) -> Row:
    """Alone and without delay: the simplest schedule."""
    while row.ended is None:
        row.visit()
    return row


def finish_at_first_exit(row: Row) -> Row:
    """Alone and without delay; in verify deeper exits are asked and overruled, as the engine does."""
    while row.ended is None:
        row.visit(suppress=row.propagation.judged and row.station > 0)
    return row


def serve(
    rows: Sequence[Row], rng: Random, after: After = nothing, drains: Callable[[Row], None] | None = None
) -> None:
    """Rounds until every row has ended. `drains` drains a lossy row early, which no engine may do."""
    while live := [row for row in rows if row.ended is None]:
        one_round(live, rng, after, drains)


def one_round(
    live: list[Row], rng: Random, after: After = nothing, drains: Callable[[Row], None] | None = None
) -> None:
    """Some shallow turns for rows at the start of a token, then one turn for others, wherever they are."""
    eagerness, shallow_turns = rng.choice([0.3, 0.7, 1.0]), rng.randrange(6)
    rng.shuffle(live)
    for row in live * shallow_turns:
        if row.ended is None and row.station == 0 and rng.random() < eagerness:
            _visit(row, rng, after)
    for row in live:
        if row.ended is not None or rng.random() > eagerness:
            continue
        if _drained(row, rng, drains):
            after(row)
        elif row.station != 0 or shallow_turns == 0:
            _visit(row, rng, after)


def _visit(row: Row, rng: Random, after: After) -> None:
    """Only in verify may the schedule suppress a draft: there the text cannot change."""
    row.visit(suppress=row.propagation.judged and rng.random() < 0.1)
    after(row)


def _drained(row: Row, rng: Random, drains: Callable[[Row], None] | None) -> bool:
    """In verify drafts may be judged before the newest one is consumed."""
    if not row.can_drain:
        return False
    if row.propagation.judged and rng.random() < 0.2:
        row.drain()
        return True
    if drains is not None and not row.propagation.judged and rng.random() < 0.5:
        drains(row)
        return True
    return False
