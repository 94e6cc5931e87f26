"""What turns of an engine take here, passes and all that is around them: choosing, judging, keeping rows.

Two engines speak in turns, so that a busy machine disturbs both alike: one without exits, and one whose single exit
lets every token leave, so that its drafts, right or wrong, are judged by chunks of every length that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from offramp.engine.controller import Controller, Prospect
from offramp.engine.engine import Engine
from offramp.engine.request import Request
from offramp.errors import UsageError
from offramp.exits.exit_set import ExitSet
from offramp.models.base import Model

CHUNKS = (0, 1, 3, 7)
"""Drafts of the cycles that are watched, in turn."""
REPEATS = 8
TRIES = 4
"""Cycles may be cut short where rows end: so many times as many are tried."""
BUDGET = 3.0
"""Seconds for one number of rows and one exit, about: then what was seen once will do."""
STARTS = 8
"""Times that rows may end before each has spoken once."""
SHORTEST = 32
"""Tokens of a context in which cycles of every kind have room."""
MAX_LEN = 256
"""Tokens of a slot: contexts stay short."""


@dataclass(frozen=True)
class Turns:
    """Of `rows` rows. plain: median seconds of a turn without exits. The others are medians of shares of the plain turn
    beside them: shallow: a token of each row through the first segment · draft: what more it takes if they leave ·
    deep: by drafts a row, all that waits."""

    rows: int
    plain: float
    shallow: float
    draft: float
    deep: Mapping[int, float]


class _Sweep(Controller):
    """Every count of drafts in turn."""

    def __init__(self) -> None:
        self.cycles = 0

    def drafts(self, rows: Sequence[Prospect]) -> int:
        self.cycles += 1
        return CHUNKS[self.cycles % len(CHUNKS)]


class Speaker:
    """An engine of so many rows that speak without end, drafting every token where it has an exit.

    Raises UsageError for a model whose context has no room for it.
    """

    def __init__(self, model: Model, exits: ExitSet | None, rows: int) -> None:
        max_len = min(MAX_LEN, model.config.context_length)
        if max_len < SHORTEST:
            raise UsageError(
                f"a context of {max_len} tokens is too short to time this model; describe a device instead."
            )
        self.engine = Engine(model, exits, slots=rows, max_len=max_len, tier="fast", prefix_memory=0)
        self.engine.scheduler.controller = _Sweep()
        policy = "always" if exits else "never"
        self.request = Request((0,), policy=policy, max_tokens=max_len - 1, ignore_eos=True)
        self.rows, self.running = rows, list[int]()

    def cycle(self) -> list[float]:
        """Seconds of each turn of a whole cycle, up to the one in which every row speaks; rows that end before it
        begin again. Raises UsageError where they never speak."""
        for _ in range(STARTS):
            if (self.running or self._begun()) and (taken := self._spoken()):
                return taken
        raise UsageError(
            "this model ends every text at once, so it cannot be timed: are its weights numbers?"
        )

    def _begun(self) -> bool:
        """New rows, whose prompts are run until all have spoken; whether none ended."""
        self.running = self.engine.add_samples(self.request, self.rows)
        return self._spoken() is not None

    def _spoken(self) -> list[float] | None:
        """Seconds of each turn, up to the one in which every row speaks; None where one ends before."""
        taken = list[float]()
        while True:
            start = perf_counter()
            events = self.engine.step()
            taken.append(perf_counter() - start)
            if any(event.finish for event in events):
                self._stop()
                return None
            if len({event.request for event in events}) == self.rows:
                return taken
            if events:  # the others still begin
                taken.clear()

    def _stop(self) -> None:
        for number in self.running:
            self.engine.cancel(number)
        self.running = []


def watch(model: Model, exits: ExitSet, rows: int) -> Turns:
    """Turns of so many rows, with one exit; its gate is run, if it has one, and not asked. Contexts begin empty.

    Raises UsageError where tokens do not leave, whatever is asked for: at gates that are not numbers.
    """
    drafting, alone = Speaker(model, exits, rows), Speaker(model, None, rows)
    drafting.cycle(), alone.cycle()  # one that warms up
    leaves, stays, plain = list[float](), list[float](), list[float]()
    deep: dict[int, list[float]] = {count: [] for count in CHUNKS}
    begun = perf_counter()
    for _ in range(TRIES * REPEATS * len(CHUNKS)):
        *drafts, last, below = drafting.cycle()
        beside = sum(alone.cycle())
        plain.append(beside)
        leaves += [seconds / beside for seconds in drafts]
        stays.append(last / beside)
        if len(drafts) in deep:
            deep[len(drafts)].append(below / beside)
        least = min(map(len, deep.values()))
        if least >= REPEATS or (least and perf_counter() - begun > BUDGET):
            break
    if not all(deep.values()):
        raise UsageError(
            "no token leaves at this exit, so it cannot be timed: are its gate's weights numbers?"
        )
    without = median(stays)
    by_drafts = {count: median(shares) for count, shares in deep.items()}
    return Turns(rows, median(plain), without, max(0.0, median(leaves) - without), by_drafts)
