"""Whose turn it is. One cycle: d + 1 shallow rounds in which unsure rows wait at the first exit, then one deep pass
for all that wait (design section 1; d is the controller's).

A prompt cell, CELL tokens, may come wherever no row is in the middle: nobody waits at an exit and nothing drafted waits
for judgement. Between two of them every running row has a pass of its own, however long the prompts of others are; and
a prompt has its next cell after one cycle at most, in the order in which rows were admitted. So neither starves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from offramp.engine.controller import Controller
from offramp.engine.decode import deep, prefill, shallow
from offramp.engine.frontier import Frontier
from offramp.engine.judge import speak
from offramp.engine.prompts import Prompts
from offramp.engine.reply import TokenEvent
from offramp.engine.row import Row


@dataclass(frozen=True)
class Prefill:
    """A row's next prompt cell, or all that is known of its prompt already."""

    row: Row

    def run(self, frontier: Frontier, prompts: Prompts) -> list[TokenEvent]:
        row = self.row
        logits_V = prompts.recall(frontier, row) if row.prefilled == 0 else None
        if logits_V is None:
            logits_V = prefill(frontier, row)
            prompts.keep(frontier, row, logits_V)
        return speak(frontier, row, logits_V) if row.prompted else []


@dataclass(frozen=True)
class Shallow:
    """One token of each row through the first segment. Without drafting, rows that are judged stay."""

    rows: Sequence[Row]
    drafting: bool

    def run(self, frontier: Frontier, prompts: Prompts) -> list[TokenEvent]:
        with frontier.runner.decoding():
            return shallow(frontier, self.rows, self.drafting)


@dataclass(frozen=True)
class Deep:
    """Everything that waits behind the first exit."""

    rows: Sequence[Row]

    def run(self, frontier: Frontier, prompts: Prompts) -> list[TokenEvent]:
        with frontier.runner.decoding():
            return deep(frontier, self.rows)


Turn = Prefill | Shallow | Deep


class Scheduler:
    """rounds: shallow rounds left in this cycle. cell_run: whether a prompt cell was the last turn of all."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.rounds = 0
        self.cell_run = False

    def next(self, running: Iterable[Row]) -> Turn | None:
        """The next turn; None where nobody can take one. running: in the order of their admission."""
        rows = [row for row in running if not row.paused]
        prompts = [row for row in rows if not row.prompted]
        talking = sorted((row for row in rows if row.prompted), key=lambda row: row.slot)
        held = {row.id for row in talking if row.stays or row.full()}
        waiting = [row for row in talking if row.id in held]
        going = [row for row in talking if row.id not in held]
        between = not any(row.stays or row.drafts for row in talking)
        if prompts and between and not (self.cell_run and going):
            self.cell_run = True
            return Prefill(prompts[0])
        self.cell_run = False
        if waiting and not (self.rounds and going):
            self.rounds = 0
            return Deep(waiting)
        if not going:
            return None
        if self.rounds == 0:
            self.rounds = 1 + self.controller.drafts([row.prospect() for row in going])
        self.rounds -= 1
        return Shallow(going, drafting=self.rounds > 0)
