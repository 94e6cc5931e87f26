"""Learning rates as factors of the peak: pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping


def warmup(step: int, warmup_steps: int) -> float:
    """Linear from 1/warmup_steps to 1."""
    return min(1.0, (step + 1) / max(1, warmup_steps))


def hold_then_decay(step: int, steps: int, warmup_steps: int, decay_share: float) -> float:
    """Constant after the warm-up, then linear towards zero over the last `decay_share` of the steps."""
    decay_steps = max(1, round(steps * decay_share))
    return min(warmup(step, warmup_steps), (steps - step) / decay_steps)


def cosine(step: int, steps: int, warmup_steps: int) -> float:
    """Half a cosine from 1 to 0 after the warm-up."""
    done = max(0, step - warmup_steps) / max(1, steps - warmup_steps)
    return warmup(step, warmup_steps) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def constant(step: int, steps: int, warmup_steps: int) -> float:
    """1 after the warm-up, however many steps there are."""
    return warmup(step, warmup_steps)


Schedule = Callable[[int, int, int], float]
"""(step, steps, warmup_steps) -> factor."""

SCHEDULES: Mapping[str, Schedule] = {"adamw": cosine, "schedulefree": constant}
"""By the optimizer's name."""
