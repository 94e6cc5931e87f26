"""How rotary frequencies are changed so that a model reaches beyond the context it was trained on.

A frequency depends on the pair of dimensions and at most on the token's own position, never on the length of
the sequence it stands in: so a token's key is the same however its sequence is cut.

Shapes: L positions, F turned dimensions of a head, P = F / 2 pairs of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


def plain_rates(theta: float | Tensor, size: int, device: torch.device) -> Tensor:
    """Radians a position of each pair, `[P]`, or `[L, P]` for bases `[L, 1]`; float64."""
    half_P = torch.arange(0, size, 2, dtype=torch.float64, device=device) / size
    return theta**-half_P


@dataclass(frozen=True)
class Scaling(ABC):
    """kind: its name in config.json. factor: how many times longer the context becomes, at least 1."""

    kind: ClassVar[str]

    factor: float

    @property
    def amplitude(self) -> float:
        """What cosines and sines are multiplied by."""
        return 1.0

    @abstractmethod
    def rates(self, theta: float, size: int, positions_L: Tensor) -> Tensor:
        """Radians a position, float64: `[P]`, or `[L, P]` where they differ between positions."""

    @abstractmethod
    def rate_naive(self, theta: float, size: int, pair: int, position: int) -> float:
        """One of `rates`, as its source writes it."""


@dataclass(frozen=True)
class Linear(Scaling):
    """Positions divided by the factor (position interpolation, arXiv 2306.15595)."""

    kind = "linear"

    def rates(self, theta: float, size: int, positions_L: Tensor) -> Tensor:
        return plain_rates(theta, size, positions_L.device) / self.factor

    def rate_naive(self, theta: float, size: int, pair: int, position: int) -> float:
        return float(theta ** (-2 * pair / size) / self.factor)


@dataclass(frozen=True)
class Dynamic(Scaling):
    """NTK-aware: beyond `original` tokens the base grows with the position.

    `transformers` takes the base of the whole sequence's length. Here each position takes the base of the
    sequence that ends with it, which is what its decoding token by token does.
    """

    kind = "dynamic"

    original: int

    def rates(self, theta: float, size: int, positions_L: Tensor) -> Tensor:
        beyond_L = (positions_L + 1 - self.original).clamp(min=0).double()
        growth_L = 1 + self.factor * beyond_L / self.original
        return plain_rates(theta * growth_L[:, None] ** (size / (size - 2)), size, positions_L.device)

    def rate_naive(self, theta: float, size: int, pair: int, position: int) -> float:
        length = max(position + 1, self.original)
        growth = self.factor * length / self.original - (self.factor - 1)
        return float((theta * growth ** (size / (size - 2))) ** (-2 * pair / size))


@dataclass(frozen=True)
class Llama3(Scaling):
    """Llama 3.1: pairs turning less than `low` times in `original` tokens are slowed, those above `high` kept."""

    kind = "llama3"

    original: int
    low: float
    high: float

    def rates(self, theta: float, size: int, positions_L: Tensor) -> Tensor:
        rates_P = plain_rates(theta, size, positions_L.device)
        turns_P = self.original * rates_P / (2 * math.pi)
        kept_P = ((turns_P - self.low) / (self.high - self.low)).clamp(0, 1)
        return rates_P * ((1 - kept_P) / self.factor + kept_P)

    def rate_naive(self, theta: float, size: int, pair: int, position: int) -> float:
        rate = float(theta ** (-2 * pair / size))
        wavelength = 2 * math.pi / rate
        if wavelength < self.original / self.high:
            return rate
        if wavelength > self.original / self.low:
            return rate / self.factor
        smooth = (self.original / wavelength - self.low) / (self.high - self.low)
        return (1 - smooth) * rate / self.factor + smooth * rate


@dataclass(frozen=True)
class Yarn(Scaling):
    """YaRN (arXiv 2309.00071): pairs turning over beta_fast times in `original` tokens are kept, those under
    beta_slow slowed, and a ramp between them. attention_factor: the amplitude. truncate: ramp from whole pairs.
    """

    kind = "yarn"

    original: int
    beta_fast: float
    beta_slow: float
    truncate: bool
    attention_factor: float

    @property
    def amplitude(self) -> float:
        return self.attention_factor

    def rates(self, theta: float, size: int, positions_L: Tensor) -> Tensor:
        rates_P = plain_rates(theta, size, positions_L.device)
        low, high = self._ramp(theta, size)
        pair_P = torch.arange(size // 2, dtype=torch.float64, device=positions_L.device)
        slowed_P = ((pair_P - low) / (high - low)).clamp(0, 1)
        return rates_P * (slowed_P / self.factor + 1 - slowed_P)

    def rate_naive(self, theta: float, size: int, pair: int, position: int) -> float:
        rate = float(theta ** (-2 * pair / size))
        low, high = self._ramp(theta, size)
        if pair <= low:
            return rate
        slowed = min((pair - low) / (high - low), 1.0)
        return rate / self.factor * slowed + rate * (1 - slowed)

    def _ramp(self, theta: float, size: int) -> tuple[float, float]:
        """Between which pairs the ramp lies."""
        low, high = (self._pair(turns, theta, size) for turns in (self.beta_fast, self.beta_slow))
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, size - 1)
        return low, high if high != low else high + 0.001  # as transformers avoids a division by zero

    def _pair(self, turns: float, theta: float, size: int) -> float:
        """Which pair turns that often in the original context (a fraction)."""
        return size * math.log(self.original / (turns * 2 * math.pi)) / (2 * math.log(theta))


KINDS: tuple[type[Scaling], ...] = (Linear, Dynamic, Llama3, Yarn)
