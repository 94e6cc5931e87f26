"""What the controller's model of a cycle promised, from the times it measured and the averages it kept."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.engine.controller import Measured, Prospect, promises
from offramp.engine.engine import Engine
from offramp.engine.request import Request
from offramp.engine.timings import Timings


@dataclass(frozen=True)
class Prediction:
    """For a full batch under `verify`, at the end of the measurement.

    leave, accept: the averages of all rows · drafts: the d chosen for them · plain, chosen: tokens a second promised
    with no drafts and with those. The plain one has exits and pays for their gates.
    """

    timings: Timings
    leave: float
    accept: float
    drafts: int
    plain: float
    chosen: float

    @classmethod
    def of(cls, engine: Engine) -> Prediction:
        """engine: one with drafts "auto"."""
        controller, odds = engine.scheduler.controller, engine.odds
        assert isinstance(controller, Measured)
        row = Prospect(odds.leave, odds.accept, judged=True, waits=True, room=Request((0,)).run_max)
        rows = [row] * engine.slots
        rates = [promise.rate for promise in promises(rows, controller.timings, controller.most)]
        drafts = controller.drafts(rows)
        return cls(controller.timings, odds.leave, odds.accept, drafts, rates[0], rates[drafts])
