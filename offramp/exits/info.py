"""What the weights of an exit set alone do not say: whose exits they are, and what they learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from offramp.exits.checks import MOST_EXITS, check, is_count, is_number

FORMAT = 1
MOST_METRICS = 64
LONGEST_NAME = 256  # characters


@dataclass(frozen=True)
class ExitsInfo:
    """Everything is optional but the backbone and the training target.

    backbone: fingerprint of the weights the exits were trained on; revision: its name or commit, for people.
    label, label_k: what a gate learned to predict (see `labels`).   propagation: the mode it was trained for.
    thresholds: a suggestion, one an exit.   metrics: on held-out text, by exit ("after8").
    """

    model_type: str
    backbone: str
    label: str
    label_k: int = 1
    propagation: str = "verify"
    revision: str = ""
    thresholds: tuple[float, ...] = ()
    metrics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Raises UsageError for a field of another type."""
        for name in ("model_type", "backbone", "label", "propagation", "revision"):
            value = getattr(self, name)
            check(name, value, isinstance(value, str), "a text")
        check(
            "revision",
            self.revision,
            len(self.revision) <= LONGEST_NAME,
            f"of at most {LONGEST_NAME} characters",
        )
        check("label_k", self.label_k, is_count(self.label_k), "an integer of at least 1")
        check(
            "thresholds",
            self.thresholds,
            _are_thresholds(self.thresholds),
            f"a list of numbers from 0 to 1, at most {MOST_EXITS:,}",
        )
        check("metrics", self.metrics, _are_metrics(self.metrics), "numbers or null, by name, by exit")
        check(
            "metrics",
            self.metrics,
            _are_few(self.metrics),
            f"of at most {MOST_EXITS:,} exits and {MOST_METRICS} names in all, "
            f"each of at most {LONGEST_NAME} characters",
        )
        check("data", self.data, isinstance(self.data, Mapping), "an object")


def _are_thresholds(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) > MOST_EXITS:
        return False
    return all(is_number(item) and 0 <= item <= 1 for item in value)


def _are_metrics(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(found, Mapping) and all(item is None or is_number(item) for item in found.values())
        for found in value.values()
    )


def _are_few(metrics: Mapping[str, Mapping[str, float | None]]) -> bool:
    """Whether a table of them, every exit by every name, stays small: a small file can name a large one."""
    names = {name for found in metrics.values() for name in found}
    long = any(len(name) > LONGEST_NAME for name in (*metrics, *names))
    return len(metrics) <= MOST_EXITS and len(names) <= MOST_METRICS and not long
