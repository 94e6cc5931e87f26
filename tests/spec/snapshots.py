"""Copies of a row: to go on elsewhere, and to share whole prompt cells (design 2, prefix reuse; 4.6)."""

from dataclasses import dataclass
from typing import Any

from .mixers import Storage, fresh
from .mixers.base import restore, snapshot
from .model import Model
from .request import Request
from .row import PROMPT, Row

PLAIN_FIELDS = ("station", "run", "tail", "memory", "ended")
LIST_FIELDS = ("tokens", "frontier", "emitted")


@dataclass(frozen=True)
class Saved:
    """Everything a row needs to go on, sharing no memory with it."""

    states: dict[Any, Any]  # part -> its state
    fields: dict[str, Any]


def save(row: Row) -> Saved:
    fields = {name: getattr(row, name) for name in PLAIN_FIELDS}
    fields |= {name: list(getattr(row, name)) for name in LIST_FIELDS}
    fields |= {"ring": [list(ring) for ring in row.ring], "memory_after": dict(row.memory_after)}
    return Saved({part: snapshot(state) for part, state in row.states.items()}, fields)


def resume(saved: Saved, model: Model, request: Request, storage: Storage = fresh) -> Row:
    """A row that goes on, bit for bit, where the saved one stood."""
    row = Row(model, request, storage)
    _restore_states(row, saved)
    for name in (*PLAIN_FIELDS, *LIST_FIELDS, "ring", "memory_after"):
        value = saved.fields[name]
        setattr(row, name, value.copy() if isinstance(value, list | dict) else value)
    row.ring = [list(ring) for ring in row.ring]
    return row


def reuse_prefix(saved: Saved, model: Model, request: Request, storage: Storage = fresh) -> Row:
    """A new row whose first prompt cells were computed by another one. At least the last cell is its own."""
    row = Row(model, request, storage)
    length = saved.fields["frontier"][0]
    assert saved.fields["station"] == PROMPT and length % request.cell == 0 and length < len(request.prompt)
    assert saved.fields["tokens"][:length] == row.tokens[:length]
    _restore_states(row, saved)
    row.frontier = list(saved.fields["frontier"])
    return row


def _restore_states(row: Row, saved: Saved) -> None:
    for part, state in row.states.items():
        restore(state, saved.states[part])
