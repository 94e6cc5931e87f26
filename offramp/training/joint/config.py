"""Everything that decides which backbone a joint run ends with."""

from __future__ import annotations

import math
from dataclasses import dataclass

from offramp.errors import UsageError
from offramp.training.exit_config import OPTIMIZERS


@dataclass(frozen=True)
class JointConfig:
    """dropout: how often a row skips the last block; the first is never skipped, between them it grows with depth.

    grow_dropout: from none at the first step, for training from scratch.
    exit_scale: what the losses at the exits count for beside the model's own (LayerSkip: 0.1 to 1).
    rotation: a step reads every exit of `rotation`, the next step the ones beside them.
    lora_rank: 0 trains all weights; else low-rank changes (arXiv 2106.09685) of the linear maps named `lora_targets`
    (none: those of attention, MLP and Mamba), times lora_alpha / lora_rank.
    """

    steps: int = 300
    tokens_per_step: int = 4096
    window: int = 512
    rate: float = 1e-4
    weight_decay: float = 0.0
    warmup_steps: int = 20
    clip: float = 1.0
    optimizer: str = "adamw"
    dropout: float = 0.1
    grow_dropout: bool = False
    exit_scale: float = 0.2
    rotation: int = 4
    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_targets: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UsageError(f"unknown optimizer {self.optimizer!r}: one of {', '.join(OPTIMIZERS)}")
        if min(self.steps, self.tokens_per_step, self.rotation) < 1:
            raise UsageError("steps, tokens_per_step and rotation must be at least 1")
        if self.window < 2:
            raise UsageError(f"a length of {self.window} leaves no token to predict; it must be at least 2")
        for name in ("rate", "clip", "lora_alpha"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} is {value}; it must be a positive number")
        for name in ("weight_decay", "warmup_steps", "exit_scale", "lora_rank"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} is {value}; it must be at least 0")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        if not 0 <= self.seed < 2**31:
            raise UsageError(f"a seed of {self.seed} is outside 0 to 2**31 - 1")
        if self.lora_targets and not self.lora_rank:
            raise UsageError("lora_targets are given, but lora_rank is 0: all weights would be trained")
