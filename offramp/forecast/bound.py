"""The most that early exits can gain on a machine that waits for its weights: arithmetic, no measurement.

q: the chance that a token may stay shallow (under `verify`: that its draft is right). w: the first segment's share of
the weights. One row alone reads the deep weights only when a token needs them: at most 1 / mean depth. Of many rows
some always do. With all slots full, j shallow rounds share one reading, and no schedule gains more than

    G(q, w) = max over j of [(1 - q^j) / (1 - q)] / (j w + 1 - w).

Above the ridge, where a pass waits for its arithmetic, exact modes gain nothing and the others 1 / mean depth.
"""

from __future__ import annotations

from dataclasses import dataclass

ROUNDS = 64
"""More shallow rounds in a cycle than pay anywhere."""


@dataclass(frozen=True)
class Reads:
    """Weights in bytes. below: the blocks before the exit · above: those behind it · head · exit: its gate and bridge ·
    borrowed: what a draft reads beside the head · drafts: what it reads of the head; None: all."""

    below: float
    above: float
    head: float = 0.0
    exit: float = 0.0
    borrowed: float = 0.0
    drafts: float | None = None

    @property
    def full(self) -> float:
        """What a pass without exits reads."""
        return self.below + self.above + self.head

    @property
    def w(self) -> float:
        """The share of the blocks' weights that lie below the exit."""
        return self.below / (self.below + self.above)


def said(q: float, rounds: int) -> float:
    """Tokens expected of so many rounds: 1 + q + q^2 + ..."""
    return sum(q**i for i in range(rounds))


def gain_bound(q: float, w: float) -> float:
    """G(q, w), for many rows. At least 1: one round is plain decoding."""
    return max(said(q, j) / (j * w + 1 - w) for j in range(1, ROUNDS))


def gain_bound_with_heads(q: float, reads: Reads) -> float:
    """G with what it leaves out: gate and bridge, and the head, which every round reads. May be below 1: exits cost
    something even if nothing leaves."""

    draft_head = reads.head if reads.drafts is None else reads.drafts

    def read(rounds: int) -> float:
        drafts = rounds - 1
        every = rounds * (reads.below + reads.exit)
        return every + drafts * (draft_head + reads.borrowed) + reads.above + reads.head

    return max(said(q, j) * reads.full / read(j) for j in range(1, ROUNDS))


def gain_bound_alone(q: float, w: float) -> float:
    """1 / mean depth: one row, and a gate that knows which tokens may stay shallow."""
    return 1 / (1 - q * (1 - w))
