"""All that a bench found, and what it was found with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from offramp.bench.results import Line


@dataclass(frozen=True)
class Conditions:
    """labels: what figures depend on: random weights, forced agreement, temperature. prompts: how many.
    machine: processor and libraries, by name."""

    model: str
    labels: Sequence[str]
    dtype: str
    threads: int
    rounds: int
    max_tokens: int
    prompts: int
    machine: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """lines: of one row, all engines. batches: by number of rows, ours."""

    conditions: Conditions
    lines: Sequence[Line]
    batches: Mapping[int, Sequence[Line]]
