"""One twin through the whole demo: quality in the exact tier, wall clock in the fast one, a sampled check."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from offramp.evaluation.wallclock import CONTROL, Tick, ratios
from offramp.zoo.showcase.quality import Generator, Quality, Trial, quality, trial
from offramp.zoo.showcase.settings import FULL, SETTINGS, SKIP, VERIFY, Setting
from offramp.zoo.showcase.stage import Stage

TIMED, SAMPLED, SWEPT = 5, 3, 3
"""How many prompts each of these takes."""

SWEEP = (0.2, 0.4, 0.6, 0.8, 0.95)


@dataclass(frozen=True)
class TwinReport:
    """Everything the demo says about a twin.

    times: wall clock as a ratio to full depth, by the setting's name; control: full depth against itself.
    sampled: replies drawn at temperature 0.8 that `verify` left as they are, of so many.
    sweep: the `SKIP` setting at other thresholds, as far as time allowed.
    """

    twin: str
    num_blocks: int
    depths: tuple[int, ...]
    rows: tuple[Quality, ...]
    trials: Mapping[str, Sequence[Trial]]
    times: Mapping[str, float]
    control: float
    sampled: tuple[int, int]
    sweep: tuple[Quality, ...]


def pieces_of_work(prompts: int) -> int:
    """How often `show` ticks at most."""
    return prompts * len(SETTINGS) + TIMED * (len(SETTINGS) + 1) + SAMPLED * 2 + SWEPT * len(SWEEP)


def show(stage: Stage, tick: Tick, deadline: float) -> TwinReport:
    """Run everything on one twin. Past `deadline` (of `time.monotonic`) the sweep goes no further."""
    exact = stage.engines("exact")
    trials = {setting.name: _trials(stage, exact, setting, tick) for setting in SETTINGS}
    full = trials[FULL.name]
    times = _times(stage, stage.engines("fast"), tick)
    return TwinReport(
        twin=stage.twin,
        num_blocks=stage.num_blocks,
        depths=stage.depths,
        rows=tuple(quality(s, trials[s.name], full, stage.num_blocks) for s in SETTINGS),
        trials=trials,
        times=times,
        control=times[CONTROL],
        sampled=_sampled(stage, exact, tick),
        sweep=_sweep(stage, exact, full, tick, deadline),
    )


def _trials(stage: Stage, engines: Mapping[str, Generator], setting: Setting, tick: Tick) -> list[Trial]:
    done = []
    for task in stage.tasks:
        tick(setting.name)
        request = task.request(setting, stage.thresholds[setting.exits])
        done.append(trial(engines[setting.exits], task, request, stage.agreeing))
    return done


def _times(stage: Stage, engines: Mapping[str, Generator], tick: Tick) -> dict[str, float]:
    """Padding is never in a baseline: `engines` are the unpadded ones."""
    turns = [
        {
            setting.name: partial(
                engines[setting.exits].generate, task.request(setting, stage.thresholds[setting.exits])
            )
            for setting in SETTINGS
        }
        for task in stage.code[:TIMED]
    ]
    return ratios(turns, FULL.name, tick)


def _sampled(stage: Stage, engines: Mapping[str, Generator], tick: Tick) -> tuple[int, int]:
    """Whether `verify` leaves the text as it is also where tokens are drawn, for the same seed."""
    same, tasks = 0, stage.code[:SAMPLED]
    for seed, task in enumerate(tasks):
        replies = []
        for setting in (FULL, VERIFY):
            tick(f"sampled: {setting.name}")
            request = task.sampled(setting, stage.thresholds[setting.exits], seed)
            replies.append(engines[setting.exits].generate(request).tokens)
        same += replies[0] == replies[1]
    return same, len(tasks)


def _sweep(
    stage: Stage, engines: Mapping[str, Generator], full: Sequence[Trial], tick: Tick, deadline: float
) -> tuple[Quality, ...]:
    """Quality and depth of one lossy setting as its threshold falls."""
    tasks = stage.code[:SWEPT]
    baseline = [item for item in full if item.task in tasks]
    points: list[Quality] = []
    for threshold in SWEEP:
        if time.monotonic() > deadline:
            break
        trials = []
        for task in tasks:
            tick(f"sweep: threshold {threshold}")
            trials.append(trial(engines[SKIP.exits], task, task.request(SKIP, (threshold,)), stage.agreeing))
        points.append(quality(SKIP, trials, baseline, stage.num_blocks))
    return tuple(points)
