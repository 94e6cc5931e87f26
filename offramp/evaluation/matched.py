"""Random exits at the rate of a gate: what the gate knows is the difference between the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from offramp.evaluation.evaluate import Evaluation
from offramp.evaluation.setting import Setting


def random_at_rate(setting: Setting, evaluation: Evaluation, after: Sequence[int]) -> Setting:
    """The setting with policy `random`, at each exit at the rate at which tokens that might leave there did.

    evaluation: of the setting. after: the blocks the exits sit after.
    """
    free = Counter(
        depth
        for item in evaluation.items
        for depth in _free(item.reply.depths[1:], evaluation.num_blocks, setting.run_max)
    )
    reached = [sum(count for depth, count in free.items() if depth >= position) for position in after]
    rates = [free[position] / max(1, count) for position, count in zip(after, reached, strict=True)]
    thresholds = tuple(1 - rate for rate in rates)
    return replace(setting, name=f"random, as {setting.name}", policy="random", thresholds=thresholds)


def _free(depths: Sequence[int], num_blocks: int, run_max: int) -> Iterator[int]:
    """The depths of those tokens that `run_max` let leave."""
    run = 0
    for depth in depths:
        if run < run_max:
            yield depth
        run = 0 if depth == num_blocks else run + 1
