"""A study's results, found by what they are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from offramp.evaluation.bootstrap import Interval, Sample, interval, paired_bootstrap
from offramp.study.manifest import Manifest
from offramp.study.measured import Chosen, sample
from offramp.study.results import Found, keys, read_result


@dataclass(frozen=True)
class Arm:
    """One way of running a model: the exits of an arm, trained in a group, under a propagation and a policy."""

    group: str
    arm: str
    propagation: str
    policy: str = "gate"

    @property
    def path(self) -> str:
        return f"free/{self.group}/{self.arm}/{self.propagation}/{self.policy}"


@dataclass(frozen=True)
class Front:
    """An arm at every share that is to leave. seeds: their numbers.   points[p][s]: what `compact` gave."""

    seeds: tuple[int, ...]
    shares: tuple[float, ...]
    points: tuple[tuple[Mapping[str, Any], ...], ...]

    def sample(self, point: int, measure: str, chosen: Chosen | None = None) -> Sample:
        return sample(self.points[point], measure, chosen)

    def interval(self, point: int, measure: str, chosen: Chosen | None = None) -> Interval:
        return interval(self.sample(point, measure, chosen))

    def only(self, seeds: Sequence[int]) -> Front:
        """Of these seeds."""
        places = [i for i, seed in enumerate(self.seeds) if seed in seeds]
        points = tuple(tuple(point[i] for i in places) for point in self.points)
        return Front(tuple(self.seeds[i] for i in places), self.shares, points)

    @property
    def middle(self) -> int:
        return len(self.points) // 2


@dataclass(frozen=True)
class Runs:
    """All results there are, by job name."""

    manifest: Manifest
    found: Mapping[str, Found]
    seconds: Mapping[str, float]

    @property
    def models(self) -> list[str]:
        """In the plan's order."""
        return list(dict.fromkeys(job.name.partition("/")[0] for job in self.manifest.jobs))

    @property
    def missing(self) -> list[str]:
        return [job.name for job in self.manifest.jobs if job.name not in self.found]

    def one(self, name: str) -> Found | None:
        return self.found.get(name)

    def seeds(self, path: str) -> dict[int, Found]:
        """What jobs of this name found, by training seed: the name's last part."""
        pairs = ((name.rpartition("/"), found) for name, found in self.found.items())
        return {int(seed): found for (head, _, seed), found in pairs if head == path and seed.isdecimal()}

    def front(self, model: str, arm: Arm) -> Front | None:
        """None where nothing of it has run."""
        return _front(self.seeds(f"{model}/{arm.path}"))

    def alone(self, name: str) -> Front | None:
        """Of a job without training seeds."""
        found = self.one(name)
        return None if found is None else _front({0: found})

    def tuned(self, model: str, group: str, arm: str) -> dict[int, Mapping[str, Any]]:
        """What tuning says of an arm, by training seed."""
        found = self.seeds(f"{model}/tune/{group}")
        return {seed: each["tuned"][arm] for seed, each in found.items() if arm in each["tuned"]}


def read_runs(folder: Path, manifest: Manifest) -> Runs:
    """Raises DataError for a damaged result."""
    names = keys(manifest.jobs)
    results = [read_result(folder, name, key) for name, key in names.items()]
    there = [result for result in results if result is not None]
    return Runs(manifest, {r.name: r.found for r in there}, {r.name: r.seconds for r in there})


def within(found: Interval) -> Interval:
    """Of a share: no wider than from 0 to 1, which the bootstrap does not know."""
    return Interval(found.value, max(found.low, 0.0), min(found.high, 1.0))


def known(found: Interval) -> tuple[float | None, float | None, float | None]:
    """Value, low, high; None for what is not known."""
    value, low, high = (number if isfinite(number) else None for number in vars(found).values())
    return value, low, high


def apart_at(
    a: Front, b: Front, x: str, y: str, chosen: Chosen | None = None
) -> tuple[float, Interval] | None:
    """a - b in y where both spend the same x, each front's points joined by lines; and that x.

    It is the middle of what both fronts cover; None where there is nothing that both do.
    """
    pair = _paired(a, b)
    if pair is None:
        return None
    ranges = [sorted(front.sample(p, x).value for p in range(len(front.points))) for front in pair]
    low, high = max(each[0] for each in ranges), min(each[-1] for each in ranges)
    if not low < high:
        return None
    at = (low + high) / 2
    samples = [
        front.sample(p, measure, chosen if measure == y else None)
        for front in pair
        for measure in (x, y)
        for p in range(len(front.points))
    ]
    counts = [len(front.points) for front in pair]
    return at, paired_bootstrap(samples, lambda values: _between(values, counts, at))


def _between(values: Any, counts: Sequence[int], at: float) -> Any:
    """The difference of two lines at `at`. values: x and y of one front, then of the other, `[arms]` or `[arms, B]`."""
    flat = values.reshape(len(values), -1)
    first, second = counts
    xs, ys = (
        (flat[:first], flat[2 * first : 2 * first + second]),
        (flat[first : 2 * first], flat[2 * first + second :]),
    )
    found = [
        _line(xs[0][:, b], ys[0][:, b], at) - _line(xs[1][:, b], ys[1][:, b], at)
        for b in range(flat.shape[1])
    ]
    return np.array(found).reshape(values.shape[1:])


def _line(x: Any, y: Any, at: float) -> float:
    order = np.argsort(x)
    return float(np.interp(at, x[order], y[order]))


def _paired(a: Front, b: Front) -> tuple[Front, Front] | None:
    """Over the seeds that both have; an arm that needs no training goes with any."""
    if len(a.seeds) == 1 or len(b.seeds) == 1:
        return a, b
    common = sorted(set(a.seeds) & set(b.seeds))
    return (a.only(common), b.only(common)) if common else None


def _front(found: Mapping[int, Found]) -> Front | None:
    if not found:
        return None
    seeds = tuple(sorted(found))
    points = [found[seed]["points"] for seed in seeds]
    shares = tuple(float(point.get("share", 0.0)) for point in points[0])
    return Front(seeds, shares, tuple(tuple(p["measured"] for p in row) for row in zip(*points, strict=True)))
