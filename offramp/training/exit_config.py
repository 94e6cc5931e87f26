"""Everything that decides which exits a training run ends with."""

from __future__ import annotations

import math
from dataclasses import dataclass

from offramp.errors import UsageError
from offramp.exits.labels import find_label
from offramp.propagation.base import Propagation
from offramp.registry import find

WEIGHTINGS = ("sum", "paper")
OPTIMIZERS = ("adamw", "schedulefree")
READINGS = ("bridge", "exit")


@dataclass(frozen=True)
class ExitTrainConfig:
    """label, label_k: see `exits.labels`.   propagation: the mode the exits are meant for, noted beside them.

    label_reads: "bridge": the label is about the token that the bridge emits; "exit": about the one of the exit's
    bare hidden state, which the published code trained on and did not emit.
    optimizer: "adamw", its rate falling along half a cosine, or "schedulefree" (arXiv 2405.15682), as the paper.

    weighting: "sum", or "paper": exit i of n weighs i / (1 + ... + n). Exits share no parameters and Adam
    ignores a loss's scale, so it changes next to nothing; it is here for comparison.
    balance: weigh positive labels so that both classes count alike in every batch.
    precision: the suggested thresholds keep this share of leaving tokens right on held-out text.
    """

    label: str = "exact"
    label_k: int = 1
    label_reads: str = "bridge"
    propagation: str = "verify"
    steps: int = 300
    tokens_per_step: int = 4096
    window: int = 512
    rate: float = 3e-3
    weight_decay: float = 0.01
    warmup_steps: int = 20
    clip: float = 1.0
    optimizer: str = "adamw"
    weighting: str = "sum"
    balance: bool = False
    precision: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        find_label(self.label, self.label_k)
        find("offramp.propagation", self.propagation, Propagation)
        _one_of("weighting", self.weighting, WEIGHTINGS)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("label_reads", self.label_reads, READINGS)
        if min(self.steps, self.tokens_per_step) < 1:
            raise UsageError("steps and tokens_per_step must be at least 1")
        if self.window < 2:
            raise UsageError(f"a length of {self.window} leaves no token to predict; it must be at least 2")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise UsageError(f"a learning rate of {self.rate} is no positive number")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise UsageError(f"a weight decay of {self.weight_decay} is not at least 0")
        if not self.clip > 0:
            raise UsageError(f"gradients cannot be clipped to a norm of {self.clip}; it must be above 0")
        if self.warmup_steps < 0:
            raise UsageError(f"{self.warmup_steps} warmup steps are less than none")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"a seed of {self.seed} is outside 0 to 2**63 - 1")
        if not 0.0 <= self.precision <= 1.0:
            raise UsageError(f"a precision of {self.precision} is outside [0, 1]")


def _one_of(field: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"unknown {field} {value!r}: one of {', '.join(known)}")
