"""Exit policies: pure rules (signal, memory) -> (leave, memory). Memory is a value: rolling back is easy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

Memory = tuple[float, ...]


@dataclass(frozen=True)
class Signal:
    """What a rule may see of the newest token at one exit."""

    exit: int
    gate: float
    entering_D: Tensor
    leaving_D: Tensor
    index: int  # of the token to be chosen, among the generated ones
    max_tokens: int
    logits_V: Tensor | None = None  # the bridge's, only for a policy that needs them

    def has_nan(self) -> bool:
        return self.gate != self.gate or (self.logits_V is not None and bool(self.logits_V.isnan().any()))


@dataclass(frozen=True)
class Policy:
    """One threshold an exit."""

    thresholds: Sequence[float] = ()
    needs_logits: ClassVar[bool] = False

    def init_state(self) -> Memory:
        return ()

    def __call__(self, signal: Signal, memory: Memory) -> tuple[bool, Memory]:
        return self.score(signal) > self.thresholds[signal.exit], memory

    def score(self, signal: Signal) -> float:
        raise NotImplementedError


class ByGate(Policy):
    def score(self, signal: Signal) -> float:
        return signal.gate


class RandomByGate(Policy):
    """Digits of the gate's value far behind the point: as good as random, and a function of the row alone."""

    def score(self, signal: Signal) -> float:
        return signal.gate * 7919 % 1


class Confidence(Policy):
    needs_logits = True

    def score(self, signal: Signal) -> float:
        assert signal.logits_V is not None
        return signal.logits_V.softmax(-1).max().item()


class Never(Policy):
    def __call__(self, signal: Signal, memory: Memory) -> tuple[bool, Memory]:
        return False, memory


class Always(Policy):
    def __call__(self, signal: Signal, memory: Memory) -> tuple[bool, Memory]:
        return True, memory


class Average(Policy):
    """With memory: a running average of the gate, and how often it was asked. One call too many shows."""

    def init_state(self) -> Memory:
        return (0.0, 0.0)

    def __call__(self, signal: Signal, memory: Memory) -> tuple[bool, Memory]:
        average, calls = 0.5 * memory[0] + 0.5 * signal.gate, memory[1] + 1
        return average + 0.1 * (calls % 2) > self.thresholds[signal.exit], (average, calls)


class Patience(Policy):
    """With memory: leave when the gate has been sure twice in a row, whatever the exits and tokens."""

    def init_state(self) -> Memory:
        return (0.0,)

    def __call__(self, signal: Signal, memory: Memory) -> tuple[bool, Memory]:
        streak = memory[0] + 1 if signal.gate > self.thresholds[signal.exit] else 0.0
        return streak >= 2, (streak,)
