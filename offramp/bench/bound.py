"""The most that drafts can gain on this machine: what cycles said, over what their passes take.

Cycles of at most so many drafts are recorded once; with a lower limit each would have stopped there. Passes are
timed as shares of a plain turn beside them (`forecast.turns`), gates, heads and bookkeeping included. No limit d gains
more than

    G = max over d of [sum of 1 + accepted] / [sum of (drafts + 1) shallow + drafts draft + deep(drafts + 1)].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from offramp.engine.controller import Odds
from offramp.engine.engine import Engine
from offramp.engine.request import Request
from offramp.engine.timings import Curve
from offramp.forecast.turns import Turns

MOST = 8
"""Drafts of a cycle, as the controller's."""


@dataclass(frozen=True)
class Cycle:
    """What one deep pass judged: so many drafts, of which the first `accepted` were right."""

    drafts: int
    accepted: int

    def within(self, most: int) -> Cycle:
        """With a lower limit."""
        return Cycle(min(self.drafts, most), min(self.accepted, most))


@dataclass(frozen=True)
class Bound:
    """gain: G. policy, drafts: under which it is reached. accept: the share of judged drafts that were right.
    below: w, the first segment's share of the blocks' weights. shallow, draft, deep (by drafts): shares of a plain
    turn. plain: its seconds."""

    gain: float
    policy: str
    drafts: int
    accept: float
    below: float
    shallow: float
    draft: float
    deep: Mapping[int, float]
    plain: float


@dataclass
class Recorder(Odds):
    """The engine's running averages, and every judgement."""

    cycles: list[Cycle] = field(default_factory=list)

    def judged(self, drafts: int, accepted: int) -> None:
        super().judged(drafts, accepted)
        self.cycles.append(Cycle(drafts, accepted))


def record(engine: Engine, requests: Iterable[Request]) -> list[Cycle]:
    """The cycles of these requests, run to their ends one after another. engine: one with `MOST` drafts."""
    engine.odds = recorder = Recorder()
    for request in requests:
        engine.generate(request)
    return recorder.cycles


def bound(recorded: Mapping[str, Sequence[Cycle]], turns: Turns, below: float) -> Bound:
    """recorded: by policy. turns: of one row."""
    rates = {
        (policy, most): rate([cycle.within(most) for cycle in cycles], turns)
        for policy, cycles in recorded.items()
        for most in range(MOST + 1)
        if cycles
    }
    (policy, drafts), gain = max(rates.items(), key=lambda item: item[1])
    return Bound(
        gain,
        policy,
        drafts,
        acceptance(recorded[policy]),
        below,
        turns.shallow,
        turns.draft,
        turns.deep,
        turns.plain,
    )


def rate(cycles: Sequence[Cycle], turns: Turns) -> float:
    """Tokens for each plain turn's time."""
    deep = Curve(tuple((drafts + 1, share) for drafts, share in sorted(turns.deep.items())))
    drafts = sum(cycle.drafts for cycle in cycles)
    taken = (drafts + len(cycles)) * turns.shallow + drafts * turns.draft
    taken += sum(deep.seconds(cycle.drafts + 1) for cycle in cycles)
    return sum(1 + cycle.accepted for cycle in cycles) / taken


def acceptance(cycles: Sequence[Cycle]) -> float:
    """Of the drafts that were judged: those behind the first wrong one were not."""
    right = sum(cycle.accepted for cycle in cycles)
    wrong = sum(cycle.accepted < cycle.drafts for cycle in cycles)
    return right / max(1, right + wrong)
