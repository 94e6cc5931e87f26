"""Expected gains: what the engine's controller would promise with these passes and this agreement, over no exits.

`engine.controller.promises` is the whole model: rows and tokens are independent of each other, tokens that waited are
judged in one chunk, and the best number of drafts is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from offramp.engine.controller import Prospect, promises
from offramp.engine.measure import MOST
from offramp.engine.timings import Timings
from offramp.evaluation.bootstrap import Interval
from offramp.forecast.agreement import Agreement
from offramp.forecast.clock import Clock
from offramp.forecast.setting import NO_GATE, PERFECT, Setting, Skill

ALIKE = 0.02
"""Gains that differ by less are the same."""


@dataclass(frozen=True)
class Gain:
    """Tokens a second over those of the same engine without exits, for so many rows.

    expected: with a gate of the assumed skill, or drafting every token where that is better (`gated` says which); low,
    high: at the ends of the agreement's interval. most: with a gate that knows. drafts: a cycle's, of the expected.
    """

    rows: int
    expected: float
    low: float
    high: float
    most: float
    gated: bool
    drafts: int


@dataclass(frozen=True)
class Outlook:
    """One exit under one propagation. changed: the share of tokens expected to differ from the full model's, without
    what inexact state adds; 0 where everything is judged."""

    after: int
    bridge: str
    agreement: float
    propagation: str
    changed: float
    gains: tuple[Gain, ...]

    @property
    def best(self) -> Gain:
        """The fewest rows that gain as much as any, or so nearly that nobody could tell."""
        most = max(gain.expected for gain in self.gains)
        return next(gain for gain in self.gains if gain.expected > most - ALIKE)


def outlook(
    clock: Clock, found: Agreement, propagation: str, skill: Skill, batches: Sequence[int]
) -> Outlook | None:
    """None where the propagation does not serve these blocks."""
    setting = Setting(found.after, found.bridge, propagation)
    if not clock.serves(setting):
        return None
    judged = setting.kind.judged
    gains = tuple(_gain(clock, setting, found.share, skill, rows) for rows in batches)
    changed = 0.0 if judged else skill.wrong(found.share.value)
    return Outlook(found.after, found.bridge, found.share.value, propagation, changed, gains)


def _gain(clock: Clock, setting: Setting, share: Interval, skill: Skill, rows: int) -> Gain:
    ways = [(setting, skill)]
    if setting.kind.judged:
        ways.append((replace(setting, gated=False), NO_GATE))
    found = [(cycle_gain(clock, *way, share.value, rows), *way) for way in ways]
    (expected, drafts), taken, its_skill = max(found, key=lambda item: item[0])
    low, high = (cycle_gain(clock, taken, its_skill, value, rows)[0] for value in (share.low, share.high))
    most, _ = cycle_gain(clock, setting, PERFECT, share.value, rows)
    return Gain(rows, expected, low, high, max(most, expected), taken.gated, drafts)


def cycle_gain(
    clock: Clock, setting: Setting, skill: Skill, agreement: float, rows: int
) -> tuple[float, int]:
    """The best cycle's tokens a second over those without exits, and its drafts."""
    return best_cycle(
        clock.timings(setting, rows), clock.plain(rows), skill.prospect(agreement, setting), rows
    )


def best_cycle(timings: Timings, plain: float, prospect: Prospect, rows: int) -> tuple[float, int]:
    """The same of known passes. plain: seconds in which every row has a token without exits."""
    best = max(promises([prospect] * rows, timings, MOST), key=lambda offer: offer.rate)
    return best.rate * plain / rows, best.drafts
