"""How many tokens may leave before the deep pass comes: the number that promises most tokens a second.

One cycle of the engine is d + 1 shallow rounds and one deep pass. Each round runs segment 0 for the rows whose
tokens have left so far; a row whose token stays waits for the deep pass, which takes all that need it. Of a `verify`
row at most d tokens leave, then it is judged; a lossy row that left d + 1 times needs no deep pass.

More rounds share one reading of the deep weights, but the tokens behind the first draft that is wrong are for
nothing. What is best depends on the machine, on how many rows run and on how well their exits do, so it is computed
anew each cycle, from measured times and running averages. It decides when passes run, never what a lossy row says;
under `verify` it may suppress drafts, and the text cannot change.

Shapes: R rows, J shallow rounds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from offramp.engine.timings import Curve, Timings

Floats = NDArray[np.float64]

RATE = 0.1
"""How far one observation moves a running average."""
DRIFT = 0.002
"""How far a cycle without drafts moves the acceptance back to its prior."""
PRIOR = 0.8
"""The acceptance that is believed until it is seen: with it, drafts pay on most machines and are tried."""
MARGIN = 1.02
"""Drafts must promise this much more than plain decoding: averages and timings are never exact."""


@dataclass
class Odds:
    """Running averages: how often a token may leave at the first exit, and how often a judged draft is accepted.

    The engine has one, and each row has one that begins there (`newcomer`) and reports what it sees.
    While nothing is drafted the acceptance cannot be seen. So it drifts back to PRIOR, slowly, and drafts are tried
    again from time to time: one failure takes away what ten to a hundred such cycles give back.
    """

    leave: float = 0.5
    accept: float = PRIOR
    common: Odds | None = None

    def newcomer(self) -> Odds:
        """The odds of a new row."""
        return Odds(self.leave, self.accept, self)

    def asked(self, left: bool) -> None:
        """The first exit was asked, and would let the token leave or not."""
        self.leave += RATE * (left - self.leave)
        if self.common:
            self.common.asked(left)

    def judged(self, drafts: int, accepted: int) -> None:
        """A deep pass judged so many drafts. The first rejected is one failure; those behind it say nothing."""
        assert 0 <= accepted <= drafts
        if drafts == 0:
            self.accept += DRIFT * (PRIOR - self.accept)
        for success in [True] * accepted + [False] * (accepted < drafts):
            self.accept += RATE * (success - self.accept)
        if self.common:
            self.common.judged(drafts, accepted)


@dataclass(frozen=True)
class Prospect:
    """What a row brings into a cycle.

    leave: the chance that a token leaves · accept: that a draft is right, given that those before it were (lossy
    rows: not read) · judged, waits: as its propagation's · room: how many more tokens may leave before one must stay.
    """

    leave: float
    accept: float
    judged: bool
    waits: bool
    room: int


@dataclass(frozen=True)
class Promise:
    """What a cycle with so many drafts is expected to give and to take."""

    drafts: int
    tokens: float
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / max(self.seconds, 1e-12)  # a clock may have seen nothing


class Controller(ABC):
    """Chooses d, the number of drafts after which the deep pass comes; asked once a cycle."""

    @abstractmethod
    def drafts(self, rows: Sequence[Prospect]) -> int:
        """d for a cycle of these rows. 0 is plain decoding: every `verify` row goes deep with every token."""


@dataclass(frozen=True)
class Fixed(Controller):
    """Always the same d."""

    d: int

    def drafts(self, rows: Sequence[Prospect]) -> int:
        return self.d


@dataclass(frozen=True)
class Measured(Controller):
    """The d in 0..most that promises most tokens a second on this machine."""

    timings: Timings
    most: int

    def drafts(self, rows: Sequence[Prospect]) -> int:
        """Ties go to the smaller d, and 0 has MARGIN before the others."""
        if not rows:
            return 0
        plain, *others = promises(rows, self.timings, self.most)
        best = max(others, key=lambda promise: promise.rate, default=plain)
        return best.drafts if best.rate > MARGIN * plain.rate else 0


def promises(rows: Sequence[Prospect], timings: Timings, most: int) -> list[Promise]:
    """What each d in 0..most promises. Rows are taken as independent of each other, and so are their tokens.

    reach[r, j] is the chance that row r takes part in round j: that its j tokens before have left. A lossy row says
    a token in every round it takes part in. So does a judged one, counting the token that the judgement adds, but
    only while its drafts are right. Tokens that wait are counted into the deep pass of the cycle that says them:
    some come later, but all come.
    """
    rounds_J = np.arange(most + 2)
    leave_R1, accept_R1, room_R1 = (_column(rows, name) for name in ("leave", "accept", "room"))
    judged_R1, waits_R1 = (_column(rows, name) for name in ("judged", "waits"))
    reach_RJ = np.where(rounds_J <= room_R1, leave_R1**rounds_J, 0.0)
    said_J = (reach_RJ * np.where(judged_R1, accept_R1, 1.0) ** rounds_J).sum(0)
    on_RJ = reach_RJ * (1 - judged_R1)  # in round d + 1 only lossy rows go on without the deep pass
    shallow = _costs(timings.shallow, _any(reach_RJ), reach_RJ.sum(0))
    draft = _costs(timings.draft, _any(reach_RJ), reach_RJ.sum(0))
    last_draft = _costs(timings.draft, _any(on_RJ), on_RJ.sum(0))
    held_RJ = np.where(waits_R1, reach_RJ[:, :-1].cumsum(1), 1 - reach_RJ[:, 1:])
    deep = _costs(timings.deep, _any(1 - on_RJ[:, 1:]), held_RJ.sum(0))
    taken = accumulate(s + d for s, d in zip(shallow, [0.0, *draft[1:]], strict=True))
    return [
        Promise(d, tokens, seconds + last_draft[d + 1] + deep[d])
        for d, tokens, seconds in zip(range(most + 1), accumulate(said_J.tolist()), taken, strict=False)
    ]


def _column(rows: Sequence[Prospect], name: str) -> Floats:
    return np.array([[float(getattr(row, name))] for row in rows])


def _any(chance_RJ: Floats) -> Floats:
    """The chance that at least one row comes."""
    return 1 - (1 - chance_RJ).prod(0)


def _costs(curve: Curve, chance_J: Floats, tokens_J: Floats) -> list[float]:
    """Expected seconds of passes that come with a chance and hold so many tokens on average, absence counted."""
    return [
        chance * curve.seconds(tokens / chance)
        for chance, tokens in zip(np.maximum(chance_J, 1e-9).tolist(), tokens_J.tolist(), strict=True)
    ]
