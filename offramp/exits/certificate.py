"""A certificate: under exactly these conditions, a calibrated bound on how far lossy replies go astray.

With probability `confidence` over the draw of the calibration documents, the expected loss of new documents from the
same source is at most `risk`. It is void under other documents, and where the best of several calibrations was kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from offramp.exits.checks import MOST_EXITS, check, is_count, is_number
from offramp.exits.strict import dataclass_from

FORMAT = 1
METRICS = ("agreement", "consistency", "exact_match", "f1")
MOST_STEPS = 1024
MOST_STOPS = 64
LONGEST = 1 << 10
"""Characters of a name, hash or stop string."""
MOST = 1 << 40


@dataclass(frozen=True)
class Chosen:
    """How tokens are chosen: the fields of the engine's `Sampling` but the seed, which is every request's own."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    penalty_window: int = 64

    def __post_init__(self) -> None:
        """Raises UsageError for what is no number."""
        for name, value in vars(self).items():
            check(name, value, is_number(value), "a number")


@dataclass(frozen=True)
class Binding:
    """What a certificate speaks of: all that decides a reply's tokens, but prompt, seed and thresholds.

    model: `weights_digest`. exits: `exits_digest`. dtype: of the model ("float32", "int8"). stop: the strings that end
    a reply. max_tokens: of every reply, as the beginnings of replies are riskier than the whole. prompt_tokens: the
    longest prompt's.
    """

    model: str
    exits: str
    bridge: str
    dtype: str
    propagation: str
    policy: str
    run_max: int
    sampling: Chosen
    stop: tuple[str, ...]
    max_tokens: int
    prompt_tokens: int

    def __post_init__(self) -> None:
        """Raises UsageError for a field of another type."""
        for name in ("model", "exits", "bridge", "dtype", "propagation", "policy"):
            check(name, getattr(self, name), _is_name(getattr(self, name)), "a short text")
        for name in ("run_max", "max_tokens", "prompt_tokens"):
            check(name, getattr(self, name), is_count(getattr(self, name), MOST), "a count of at least 1")
        check("sampling", self.sampling, isinstance(self.sampling, Chosen), "an object")
        stops = isinstance(self.stop, tuple) and len(self.stop) <= MOST_STOPS
        check("stop", self.stop, stops and all(map(_is_name, self.stop)), "a list of short texts")

    def digest(self) -> str:
        """Eight hex digits that differ for another binding."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Step:
    """One step of the path: its thresholds, and what came of it over the calibration documents.

    loss: the mean over documents. p: of the hypothesis that the expected loss is above the risk. depth: the mean
    number of blocks before a token was chosen. None: not measured, as the test had stopped before.
    """

    thresholds: tuple[float, ...]
    loss: float | None = None
    p: float | None = None
    depth: float | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for a field of another type."""
        right = isinstance(self.thresholds, tuple) and len(self.thresholds) <= MOST_EXITS
        right = right and all(is_number(value) and 0 <= value <= 1 for value in self.thresholds)
        check("thresholds", self.thresholds, right, f"a list of at most {MOST_EXITS:,} numbers from 0 to 1")
        for name, most in (("loss", 1.0), ("p", 1.0), ("depth", float(MOST))):
            value = getattr(self, name)
            check(
                name, value, value is None or is_number(value) and 0 <= value <= most, f"from 0 to {most:g}"
            )


@dataclass(frozen=True)
class Certificate:
    """What was found: `path[chosen]` keeps the promise; chosen is 0, the step at which nothing leaves, for "never".

    documents: those it was tested on; needed: about how many would be needed where nothing passed (None: no number
    would do, or something passed). data: sha256 of the documents as they were asked. accepted: between what shares of
    drafts the full model agrees with under `verify` at these thresholds (a 99 % interval; None: not measured).
    teacher_forced: losses come from one pass over the full model's own text, not from free runs. test_loss,
    test_documents: the mean loss of documents that took no part.
    """

    binding: Binding
    metric: str
    risk: float
    confidence: float
    chosen: int
    path: tuple[Step, ...]
    documents: int
    data: str
    needed: int | None = None
    accepted: tuple[float, float] | None = None
    teacher_forced: bool = False
    test_loss: float | None = None
    test_documents: int = 0
    seed: int = 0
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Raises UsageError for a field of another type or outside its range."""
        check("binding", self.binding, isinstance(self.binding, Binding), "an object")
        check("metric", self.metric, self.metric in METRICS, f"one of {', '.join(METRICS)}")
        for name in ("risk", "confidence"):
            value = getattr(self, name)
            check(name, value, is_number(value) and 0 < value < 1, "between 0 and 1")
        steps = isinstance(self.path, tuple) and all(isinstance(step, Step) for step in self.path)
        check("path", self.path, steps and 1 <= len(self.path) <= MOST_STEPS, f"1 to {MOST_STEPS:,} steps")
        check("chosen", self.chosen, _is_index(self.chosen, len(self.path)), "the number of a step")
        widths = {len(step.thresholds) for step in self.path}
        check("path", widths, len(widths) == 1, "as many thresholds in every step")
        check(
            "path[0]", self.path[0], set(self.path[0].thresholds) <= {1}, "the step at which nothing leaves"
        )
        self._check_counts()
        check("data", self.data, _is_name(self.data), "a short text")
        check("accepted", self.accepted, self.accepted is None or _is_interval(self.accepted), "two numbers")
        check("teacher_forced", self.teacher_forced, isinstance(self.teacher_forced, bool), "true or false")
        loss = self.test_loss
        check("test_loss", loss, loss is None or is_number(loss) and 0 <= loss <= 1, "from 0 to 1")

    def _check_counts(self) -> None:
        for name in ("documents", "test_documents", "seed"):
            check(name, getattr(self, name), _is_index(getattr(self, name), 1 << 63), "a count")
        check("needed", self.needed, self.needed is None or is_count(self.needed, MOST), "a count")

    @property
    def never(self) -> bool:
        """Whether nothing passed, so that nothing may leave."""
        return self.chosen == 0

    @property
    def step(self) -> Step:
        return self.path[self.chosen]

    @property
    def thresholds(self) -> tuple[float, ...]:
        return self.step.thresholds

    @property
    def file_name(self) -> str:
        """Of its own for every metric, risk and binding, and for losses of free runs and of one pass."""
        how = "-forced" if self.teacher_forced else ""
        return f"{self.metric}-{self.risk:g}-{self.binding.propagation}{how}-{self.binding.digest()}.json"

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Certificate:
        """Raises UsageError for anything that `to_json` has not written."""
        check("format", raw.get("format"), raw.get("format") == FORMAT, f"{FORMAT}, which this version reads")
        binding, path = raw.get("binding"), raw.get("path")
        check("binding", binding, isinstance(binding, dict), "an object")
        assert isinstance(binding, dict)
        sampling = binding.get("sampling")
        check("sampling", sampling, isinstance(sampling, dict), "an object")
        assert isinstance(sampling, dict)
        objects = isinstance(path, list) and all(isinstance(step, dict) for step in path[: MOST_STEPS + 1])
        check("path", path, objects, "a list of objects")
        assert isinstance(path, list)
        found = {
            "binding": dataclass_from(Binding, binding | {"sampling": dataclass_from(Chosen, sampling)}),
            "path": tuple(dataclass_from(Step, step) for step in path[: MOST_STEPS + 1]),
        }
        return dataclass_from(cls, {**raw, **found})


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST


def _is_index(value: object, below: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below


def _is_interval(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(map(is_number, value))
        and 0 <= value[0] <= value[1] <= 1
    )
