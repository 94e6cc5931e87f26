"""Exit policies: pure rules (signal, memory) -> (leave, memory). Memory is a value: rolling back is easy."""

import math
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
    share: float = 1.0  # of the blocks, before this exit
    may_leave: bool = True  # whatever the policy says

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


class Margin(Policy):
    needs_logits = True

    def score(self, signal: Signal) -> float:
        assert signal.logits_V is not None
        ordered = sorted(signal.logits_V.softmax(-1).tolist())
        return ordered[-1] - ordered[-2]


class Entropy(Policy):
    needs_logits = True

    def score(self, signal: Signal) -> float:
        assert signal.logits_V is not None
        logp = signal.logits_V.log_softmax(-1).tolist()
        return 1 + sum(math.exp(one) * one for one in logp) / math.log(len(logp))


class Saturation(Policy):
    def score(self, signal: Signal) -> float:
        before, after = signal.entering_D, signal.leaving_D
        return (before @ after / (before.norm() * after.norm())).item()


class Decaying(Confidence):
    """CALM, equation 5."""

    def __call__(self, signal: Signal, memory: Memory) -> tuple[bool, Memory]:
        threshold = 0.9 * self.thresholds[signal.exit] + 0.1 * math.exp(-4 * signal.index / signal.max_tokens)
        return self.score(signal) > threshold, memory


class Agreeing(Policy):
    """With memory: what the exits have named for the newest token. Leave when enough of the last ones agree."""

    needs_logits = True

    def __call__(self, signal: Signal, memory: Memory) -> tuple[bool, Memory]:
        assert signal.logits_V is not None
        named = [*(memory[1:] if memory[:1] == (signal.index,) else ()), float(signal.logits_V.argmax())]
        enough = next(n for n in range(99) if n / len(self.thresholds) > self.thresholds[signal.exit])
        agree = len(named) >= enough and len(set(named[len(named) - enough :])) == 1
        return agree, (signal.index, *named)


class MeanDepth(Policy):
    """With memory: the share of the blocks every token used. The bar is their sum's distance from the wanted one."""

    def __call__(self, signal: Signal, memory: Memory) -> tuple[bool, Memory]:
        wanted = self.thresholds[signal.exit]
        used = dict(zip(memory[::2], memory[1::2], strict=True))
        bar = wanted
        for index, share in used.items():
            bar = min(1.2, max(-0.2, bar + 0.2 * (wanted - share))) if index != signal.index else bar
        leaves = signal.gate > bar
        used[signal.index] = signal.share if leaves and signal.may_leave else 1.0
        return leaves, tuple(number for pair in used.items() for number in pair)
