"""What arithmetic allows these twins, beside `offramp.forecast.bound`, whose words these are: several exits, which a
pass without them does not read, and batches that go in step.
"""

from __future__ import annotations

from dataclasses import dataclass

from batching_reads import WeightReads

from offramp.forecast.bound import ROUNDS, said


@dataclass(frozen=True)
class Shares:
    """Weights, as shares of what a pass without exits reads, head included.

    first: the blocks before the first exit, with it · rest: all deeper blocks and exits · head.
    """

    first: float
    rest: float
    head: float

    @classmethod
    def of(cls, reads: WeightReads) -> Shares:
        return cls(reads.run[0] / reads.full, sum(reads.run[1:]) / reads.full, reads.head / reads.full)

    @property
    def w(self) -> float:
        """The shallow share of blocks and exits."""
        return self.first / (self.first + self.rest)


def gain_bound_with_heads(q: float, shares: Shares) -> float:
    """G with what it leaves out: the exits' own weights, and the head once for every draft round. May be below 1:
    then nothing is gained by exits, and an engine without any reads less."""
    return max(said(q, j) / (j * shares.first + shares.rest + j * shares.head) for j in range(1, ROUNDS))


def lockstep_bound(q: float, w: float, batch: int) -> float:
    """Of a batch in which every row says its token before any goes on: the deep weights are read unless all leave."""
    return 1 / (w + (1 - q**batch) * (1 - w))
