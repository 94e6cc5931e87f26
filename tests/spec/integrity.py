"""What must hold of a row after every visit, whatever the schedule (design 1)."""

from .mixers import Attention
from .request import RUN_LIMIT
from .row import PROMPT, Row


def check(row: Row) -> None:
    """Raises AssertionError with the name of what is broken."""
    _check_frontiers(row)
    _check_run(row)
    _check_tail(row)
    for s in range(len(row.frontier)):
        _check_parts(row, s)


def _check_frontiers(row: Row) -> None:
    frontier = row.frontier
    assert frontier == sorted(frontier, reverse=True), "frontier"
    for s in range(1, len(frontier)):
        assert [p for p, _ in row.ring[s]] == list(range(frontier[s], frontier[s - 1])), "ring"
        assert len(row.ring[s]) <= RUN_LIMIT, "ring"
    if row.ended is None and row.station == 0:
        # Between rounds exactly one token has not been consumed.
        assert len(row.tokens) == frontier[0] + 1, "tokens"


def _check_run(row: Row) -> None:
    assert row.run_length() <= row.request.run_max, "run"
    if row.propagation.waits and row.ended is None:
        assert row.frontier[0] - row.frontier[-1] <= row.request.run_max + 1, "run"


def _check_tail(row: Row) -> None:
    """With last_block: one entry per token that left and waits; the newest may still be on its way."""
    exits = row.model.exits
    if row.ended or not exits or not all(exit.bridge.borrows_last_block for exit in exits):
        return
    newest_is_on_its_way = row.station not in (PROMPT, 0)
    pending = row.frontier[0] - row.frontier[-1] - newest_is_on_its_way
    assert row.tail == (pending if row.propagation.waits else 0), "tail"


def _check_parts(row: Row, s: int) -> None:
    for part in row.model.segments[s].parts:
        state, tail = row.states[part], row.tail if part is row.model.blocks[-1] else 0
        assert part.mixer.provisional(state) == tail + _drafts_in(row, s) <= RUN_LIMIT, "provisional"
        if isinstance(part.mixer, Attention):
            positions = [entry.position for entry in state.entries]
            assert positions == sorted(set(positions)), "entries"
            if row.propagation.waits:
                assert positions[: len(positions) - tail] == list(range(row.frontier[s])), "entries"


def _drafts_in(row: Row, s: int) -> int:
    """How many of the tokens settled in segment s are not yet judged."""
    if not row.propagation.judged or row.station == PROMPT or row.ended:
        return 0
    consumed = len(row.request.prompt) + len(row.emitted) - 1
    return max(row.frontier[s] - consumed, 0)
