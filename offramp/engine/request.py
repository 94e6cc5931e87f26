"""What is asked: a prompt and everything that decides its reply.

Shapes: V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from offramp.errors import UsageError
from offramp.exits.certificate import Certificate
from offramp.mixers.base import RUN_LIMIT


def _require(fine: bool, name: str, value: object, wanted: str) -> None:
    if not fine:
        raise UsageError(f"{name} is {value}; it must be {wanted}.")


def _require_int(name: str, *values: object) -> None:
    strange = [value for value in values if type(value) is not int]
    _require(not strange, name, repr(strange[:1])[1:-1], "an int")


MOST_STOPS = 64
"""Stop strings of a request: each is looked for after every token."""

LogitsProcessor = Callable[[Tensor, Sequence[int]], Tensor]
"""Logits `[V]` and the tokens before the position -> the logits `[V]` to choose from.

A function of these two alone: it is asked again when a draft is judged, and must give the same answer.
"""


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen from logits. temperature 0 is greedy; 0, 1.0 and 0.0 switch top_k, top_p, min_p off.

    repetition_penalty (CTRL, arXiv 1909.05858) divides positive and multiplies negative logits of the tokens among
    the last penalty_window. processor changes the logits before all that, for exits and the last segment alike.
    Raises UsageError for values outside their range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    penalty_window: int = 64
    seed: int = 0
    processor: LogitsProcessor | None = None

    def __post_init__(self) -> None:
        for name in ("top_k", "seed", "penalty_window"):
            _require_int(name, getattr(self, name))
        heat = self.temperature
        _require(heat == 0 or 1e-6 <= heat < math.inf, "temperature", heat, "0 (greedy) or at least 0.000001")
        _require(self.top_k >= 0, "top_k", self.top_k, "a count >= 0 (0 is off)")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "in (0, 1] (1 is off)")
        _require(0 <= self.min_p < 1, "min_p", self.min_p, "in [0, 1) (0 is off)")
        penalty = self.repetition_penalty
        _require(0.01 <= penalty <= 100, "repetition_penalty", penalty, "between 0.01 and 100 (1 is off)")
        _require(self.penalty_window >= 1, "penalty_window", self.penalty_window, "a count >= 1")


@dataclass(frozen=True)
class Request:
    """One prompt and everything that decides its reply; fixed when it is added.

    thresholds: one number in [0, 1] for all exits, or one for each. run_max: how many tokens may leave in a row
    before one must reach the last segment. stop: strings that end the reply and are not part of it.
    forced: the reply's tokens, given: each is taken whatever the model would choose, and the events say its logprob,
    its depth and what would have been chosen (`best`). Nothing but its own end ends it.
    priority: requests of a lower number begin first. salt: prompts share what was computed of them only with
    prompts of the same salt.
    certificate: what was calibrated; the request is refused unless everything in it is as certified. Under `verify`,
    which needs none, drafts are watched against it.
    Raises UsageError for values outside their range.
    """

    prompt: tuple[int, ...]
    propagation: str = "verify"
    policy: str = "gate"
    thresholds: tuple[float, ...] = (0.5,)
    run_max: int = 8
    sampling: Sampling = Sampling()
    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    forced: tuple[int, ...] = ()
    priority: int = 0
    salt: str = ""
    certificate: Certificate | None = None

    @property
    def most(self) -> int:
        """Tokens that the reply may have."""
        return len(self.forced) or self.max_tokens

    def __post_init__(self) -> None:
        _require(len(self.prompt) > 0, "prompt", "''", "at least one token")
        for name in ("prompt", "forced"):
            _require_int(f"{name} token", *getattr(self, name))
        for name in ("max_tokens", "run_max", "priority"):
            _require_int(name, getattr(self, name))
        _require(isinstance(self.thresholds, tuple), "thresholds", self.thresholds, "a tuple of numbers")
        _require(
            len(self.stop) <= MOST_STOPS,
            "the number of stop strings",
            len(self.stop),
            f"at most {MOST_STOPS}",
        )
        text = isinstance(self.salt, str) and self.salt.isprintable()
        _require(text, "salt", repr(self.salt), "a text of printable characters")
        _require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "a count >= 1")
        _require(1 <= self.run_max < RUN_LIMIT, "run_max", self.run_max, f"between 1 and {RUN_LIMIT - 1}")
        _require(all(self.stop), "a stop string", "''", "at least one character")
        _require(not (self.stop and self.forced), "stop", self.stop, "empty where the reply is forced")
        for threshold in self.thresholds:
            _require(0 <= threshold <= 1, "threshold", threshold, "in [0, 1] (1 never leaves)")
