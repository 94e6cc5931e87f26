"""The fixed one-dimensional path of thresholds, from "nothing leaves" downwards, along which risk is tested.

It must be fixed before the documents it is tested on are looked at: it comes from the tune documents alone.

Shapes: E exits, N positions.
"""

from __future__ import annotations

import numpy as np

from offramp.calibration.temperature import Floats, sigmoid
from offramp.errors import UsageError

Thresholds = tuple[float, ...]
MOST_STEPS = 256


def gate_path(logits_EN: Floats, temperatures: tuple[float, ...], steps: int) -> tuple[Thresholds, ...]:
    """Step k lets about k in `steps` of the tune positions leave: first none, in the end all.

    At a step every exit asks for the same calibrated confidence c. sigmoid(z / T) > c is sigmoid(z) > sigmoid(T
    logit(c)), so what the engine holds a gate's value against is the latter.
    """
    _check(steps)
    heats_E = np.asarray(temperatures)
    surest_N = (logits_EN / heats_E[:, None]).max(0)
    levels = np.quantile(surest_N, 1 - np.arange(1, steps) / steps)  # a logit each
    vectors = [tuple(sigmoid(heats_E * level).tolist()) for level in levels]
    return _falling([_never(len(heats_E)), *vectors, (0.0,) * len(heats_E)])


def even_path(exits: int, steps: int) -> tuple[Thresholds, ...]:
    """For policies whose scores are not gates': the same number at every exit, closely spaced where few leave."""
    _check(steps)
    levels = 1 - (np.arange(1, steps + 1) / steps) ** 2
    return _falling([_never(exits), *((level,) * exits for level in levels.tolist())])


def _never(exits: int) -> Thresholds:
    return (1.0,) * exits


def _falling(path: list[Thresholds]) -> tuple[Thresholds, ...]:
    """Without steps that equal the one before."""
    return tuple(step for i, step in enumerate(path) if i == 0 or step != path[i - 1])


def _check(steps: int) -> None:
    if not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"steps is {steps}; it must be a count from 1 to {MOST_STEPS}.")
