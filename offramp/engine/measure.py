"""What passes cost here: every width once, on the engine's own slots before anybody owns one.

The result is kept for the next time (`timings`), because it only changes with the machine and the model. Contexts are
empty while it is measured: what attention over a long one takes is in no curve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from offramp.engine.controller import Controller, Fixed, Measured
from offramp.engine.frontier import Frontier
from offramp.engine.timings import Timings, load_timings, measure, save_timings, timings_key

REPEATS = 5
MOST = 8
"""Drafts a cycle: the bound of most gains (design section 1), and of how long a row's words may be held back."""


def measured(frontier: Frontier, progress: Callable[[str], None] | None = None) -> Controller:
    """The controller for this engine, from times that were kept or are measured now; `progress` is told of that."""
    if not frontier.exits:
        return Fixed(0)
    slots = len(frontier.stats)
    key = timings_key(frontier.model, frontier.exits, frontier.tier.bucket, slots, frontier.runner.name)
    timings = load_timings(key)
    if timings is None:
        if progress is not None:
            progress("measuring what passes cost on this machine (once; kept for the next time)")
        with frontier.runner.decoding():
            timings = _measure(frontier, slots)
        save_timings(key, timings)
    return Measured(timings, MOST)


def _measure(frontier: Frontier, slots: int) -> Timings:
    bucket = frontier.tier.bucket
    rows, tokens = _counts(slots, bucket), _counts(slots * (MOST + 1), bucket)
    return Timings(
        shallow=measure(lambda n: _shallow(frontier, range(n)), rows, REPEATS),
        deep=measure(lambda n: _deep(frontier, n, slots), tokens, REPEATS),
        draft=measure(lambda n: _draft(frontier, range(n)), rows, REPEATS),
    )


def _counts(most: int, bucket: int) -> list[int]:
    """1, 2, 4, ... and `most`; with a bucket also one token more than it and its doubles hold: there costs jump."""
    doubles = [2**i for i in range(most.bit_length() + 1)]
    jumps = [count + 1 for count in doubles if bucket and count >= bucket]
    return sorted({min(count, most) for count in doubles + jumps})


def _shallow(frontier: Frontier, rows: Sequence[int]) -> None:
    """A token of each row through the first segment."""
    frontier.feed(rows, [0] * len(rows))
    frontier.run(0, rows)
    _forget(frontier, rows)


def _deep(frontier: Frontier, tokens: int, slots: int) -> None:
    """So many tokens, of as many rows as there may be, through all deeper segments and the head."""
    rows = range(min(tokens, slots))
    for i in rows:
        frontier.segments[1].ring.waiting[i] = tokens // len(rows) + (i < tokens % len(rows))
    for s in range(1, len(frontier.segments)):
        passed = frontier.run(s, rows)
    frontier.logits(passed.hidden_ND)
    _forget(frontier, rows)


def _draft(frontier: Frontier, rows: Sequence[int]) -> None:
    """The first exit's bridge, and what drafts read of the head, for a token of each row."""
    ring_STD = frontier.segments[0].ring.memory
    frontier.peek(0, ring_STD.new_zeros(len(rows), ring_STD.shape[-1]), rows, judged=True)
    frontier.unpeek(0, rows)


def _forget(frontier: Frontier, rows: Sequence[int]) -> None:
    """As if nothing had been: the slots are nobody's."""
    for s, segment in enumerate(frontier.segments):
        frontier.commit(s, rows, [0] * len(rows))
        for slot in rows:
            segment.ring.waiting[slot] = 0
