"""What arithmetic allows, for a machine that waits for its weights: `G` and its kin.

A cycle of j shallow rounds and one deep pass says 1 + q + ... + q^(j-1) tokens of a row if a token may stay shallow
with the chance q, and reads the shallow share w of the weights j times and the rest once. So no schedule of a full
batch gains more than G(q, w) = max over j of [(1 - q^j) / (1 - q)] / (j w + 1 - w). It leaves out the vocabulary head,
gates that a baseline does not have, and everything that is not a weight.
"""

from __future__ import annotations

from dataclasses import dataclass

from batching_reads import WeightReads

ROUNDS = 64


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


def gain_bound(q: float, w: float) -> float:
    """G(q, w)."""
    return max(_said(q, j) / (j * w + 1 - w) for j in range(1, ROUNDS))


def gain_bound_with_heads(q: float, shares: Shares) -> float:
    """G with what it leaves out: the exits' own weights, and the head once for every draft round. May be below 1:
    then nothing is gained by exits, and an engine without any reads less."""
    return max(_said(q, j) / (j * shares.first + shares.rest + j * shares.head) for j in range(1, ROUNDS))


def lockstep_bound(q: float, w: float, batch: int) -> float:
    """Of a batch in which every row says its token before any goes on: the deep weights are read unless all leave."""
    return 1 / (w + (1 - q**batch) * (1 - w))


def _said(q: float, j: int) -> float:
    return sum(q**i for i in range(j))
