"""A setting: how a model is run, everything of a request that is not its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offramp.engine.request import Request, Sampling


@dataclass(frozen=True)
class Setting:
    """Fields as those of `Request`; the name is for tables."""

    name: str
    propagation: str = "verify"
    policy: str = "gate"
    thresholds: tuple[float, ...] = (0.5,)
    run_max: int = 8
    sampling: Sampling = Sampling()

    def request(self, prompt: Sequence[int], max_tokens: int, stop: Sequence[str] = ()) -> Request:
        """Raises UsageError for values outside their range."""
        return Request(
            prompt=tuple(prompt),
            propagation=self.propagation,
            policy=self.policy,
            thresholds=self.thresholds,
            run_max=self.run_max,
            sampling=self.sampling,
            max_tokens=max_tokens,
            stop=tuple(stop),
        )


FULL = Setting("full depth", policy="never")
"""What every other setting is held against."""
