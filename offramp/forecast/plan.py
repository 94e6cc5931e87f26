"""The whole forecast, as numbers that can be shown or written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offramp.engine.timings import Timings
from offramp.evaluation.bootstrap import Interval
from offramp.exits.base import ExitConfig
from offramp.forecast.agreement import Agreement
from offramp.forecast.bound import gain_bound, gain_bound_alone, gain_bound_with_heads
from offramp.forecast.clock import Clock
from offramp.forecast.outlook import Outlook, outlook
from offramp.forecast.parts import Parts
from offramp.forecast.setting import Setting, Skill
from offramp.forecast.verdict import Verdict, verdict
from offramp.registry import names

BATCHES = (1, 2, 4, 8, 16, 32)
LOSSLESS = "verify"
"""The propagation by which exits are compared."""


@dataclass(frozen=True)
class Assumed:
    """What nobody can know before training: the gate, and its skill. batches: rows that run together."""

    gate: ExitConfig
    skill: Skill = Skill(0.7, 0.85)
    batches: tuple[int, ...] = BATCHES


@dataclass(frozen=True)
class Exit:
    """One place to leave. above: the share of a pass's bytes that lies in the blocks above it. bound_one, bound_many:
    the most a memory-bound machine allows one row, and many; bound_counted: many, with gate and head."""

    after: int
    bridge: str
    agreement: Interval
    above: float
    bound_one: float
    bound_many: float
    bound_counted: float


@dataclass(frozen=True)
class Passes:
    """Seconds with so many rows, around the verdict's exit: a token of each without exits, and a cycle's passes."""

    rows: int
    plain: float
    timings: Timings


@dataclass(frozen=True)
class Forecast:
    """exits: in order of depth. outlooks: of each exit under each propagation that serves these blocks."""

    exits: tuple[Exit, ...]
    outlooks: tuple[Outlook, ...]
    verdict: Verdict
    passes: tuple[Passes, ...]

    def of(self, propagation: str) -> list[Outlook]:
        """In the exits' order."""
        return [item for item in self.outlooks if item.propagation == propagation]


def forecast(found: Sequence[Agreement], parts: Parts, clock: Clock, assumed: Assumed) -> Forecast:
    """What these agreements are worth on this clock."""
    outlooks = [
        item
        for propagation in names("offramp.propagation")
        for agreement in found
        if (item := outlook(clock, agreement, propagation, assumed.skill, assumed.batches))
    ]
    exits = tuple(_exit(item, parts) for item in found)
    said = verdict(outlooks, found, parts, clock)
    setting = Setting(said.exact.after, said.exact.bridge, said.exact.propagation)
    passes = tuple(Passes(rows, clock.plain(rows), clock.timings(setting, rows)) for rows in assumed.batches)
    return Forecast(exits, tuple(outlooks), said, passes)


def _exit(item: Agreement, parts: Parts) -> Exit:
    reads, q = parts.reads(item.after, item.bridge), item.share.value
    return Exit(
        item.after,
        item.bridge,
        item.share,
        reads.above / reads.full,
        gain_bound_alone(q, reads.w),
        gain_bound(q, reads.w),
        gain_bound_with_heads(q, reads),
    )
