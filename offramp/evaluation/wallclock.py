"""Wall clock as a ratio to full depth, measured in one run.

Prompt by prompt every setting has its turn, the order rotated, so that a machine that slows down slows all of
them. Full depth runs twice: its ratio to itself says how far the other ratios can be trusted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

Run = Callable[[], object]
Clock = Callable[[], float]
Tick = Callable[[str], None]
"""Called before every piece of work with its name."""

CONTROL = "full depth again"


def ratios(
    turns: Sequence[Mapping[str, Run]], baseline: str, tick: Tick, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """The median over prompts of each setting's seconds over the baseline's; `CONTROL` is the baseline again.

    turns: for each prompt, what runs it under each setting.
    """
    measured: dict[str, list[float]] = {}
    for number, runs in enumerate(turns):
        seconds = _seconds({**runs, CONTROL: runs[baseline]}, number, tick, clock)
        for name, spent in seconds.items():
            measured.setdefault(name, []).append(spent / max(seconds[baseline], 1e-9))
    return {name: statistics.median(values) for name, values in measured.items()}


def _seconds(runs: Mapping[str, Run], shift: int, tick: Tick, clock: Clock) -> dict[str, float]:
    """Every run once, beginning with another one for each prompt."""
    names = list(runs)
    start = shift % len(names)
    spent = {}
    for name in names[start:] + names[:start]:
        tick(f"wall clock: {name}")
        began = clock()
        runs[name]()
        spent[name] = clock() - began
    return spent
