"""What the last segment says: it judges the drafts of rows under `verify`, and chooses for all others.

Shapes: R rows, N positions of all rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from offramp.engine.frontier import Frontier, Pass
from offramp.engine.reply import Choice, TokenEvent
from offramp.engine.ring import pick
from offramp.engine.row import Row
from offramp.engine.sampler import Place, choose_each


@dataclass(frozen=True)
class Asked:
    """A position at which the last segment chooses for a row."""

    row: Row
    place: Place


def conclude(frontier: Frontier, rows: Sequence[Row], passed: Pass) -> list[TokenEvent]:
    """The last segment chooses: at every pending position of rows that are judged, with the same noise as the drafts
    had; for the newest token alone of the others."""
    asked: list[Asked] = []
    picked: list[int] = []
    stop = 0
    for row, n in zip(rows, passed.n, strict=True):
        row.arrive()
        stop += n
        mine = _asked(row, n if row.propagation.judged else 1)
        asked += mine
        picked += range(stop - len(mine), stop)
    said = choose_at(asked, frontier.logits(pick(passed.hidden_ND, picked)))
    events, kept = [], []
    for row, n in zip(rows, passed.n, strict=True):
        if row.propagation.judged:
            final, accepted = judge(frontier, row, said[row.id])
        else:
            final, accepted = [_final(frontier, row, said[row.id][0])], n
        events += final
        kept.append(accepted)
    frontier.conclude([row.slot for row in rows], kept, [row.propagation.judged for row in rows])
    return events


def _asked(row: Row, count: int) -> list[Asked]:
    """The row's last `count` positions; each takes it that the drafts before it are right."""
    end, drafts = len(row.tokens), len(row.drafts)
    firsts = range(end - drafts, end - drafts + count)
    sampling = row.request.sampling
    return [Asked(row, Place(row.tokens[:t], sampling, row.forced(t - end))) for t in firsts]


def speak(frontier: Frontier, row: Row, logits_V: Tensor) -> list[TokenEvent]:
    """The prompt's own pass gives the first token."""
    said = choose_at(_asked(row, 1), logits_V[None])
    return [_final(frontier, row, said[row.id][0])]


def choose_at(asked: Sequence[Asked], logits_NV: Tensor) -> dict[int, list[Choice | None]]:
    """What is chosen at each place, by row; None from the row's first place on whose logits are no numbers."""
    said: dict[int, list[Choice | None]] = {}
    for each, choice in zip(asked, choose_each(logits_NV, [each.place for each in asked]), strict=True):
        mine = said.setdefault(each.row.id, [])
        mine.append(None if mine and mine[-1] is None else choice)
        each.row.stats.head_rows += 1
        each.row.stats.head_passes += len(mine) == 1
    return said


def _final(frontier: Frontier, row: Row, choice: Choice | None) -> TokenEvent:
    """One token chosen by the last segment; NaN ends the row instead."""
    depth = frontier.depth(None)
    return row.fail(depth) if choice is None else row.commit(choice, depth, drafted=False)


def judge(frontier: Frontier, row: Row, said: Sequence[Choice | None]) -> tuple[list[TokenEvent], int]:
    """`verify`: commit token by token, until the first end or the first draft that the last segment would not say.

    Gives the events and how many tokens are final. Ends are examined before the rollback, so a finished row's
    frontiers are one less than its tokens.
    """
    drafts, right, rejected = row.take_drafts(), 0, False
    events: list[TokenEvent] = []
    failure: list[TokenEvent] = []
    for chosen, draft in zip(said, [*drafts, None], strict=False):  # None: after the newest draft
        if chosen is None:
            failure = [row.fail(frontier.depth(None))]
            break
        accepted = draft is not None and draft.token == chosen.token
        agreed = draft is not None and draft.best == chosen.best  # a forced draft is accepted all the same
        right += agreed
        rejected |= draft is not None and not agreed
        shown = replace(chosen, exit=draft.exit, gate=draft.gate) if draft and accepted else chosen
        events.append(row.commit(shown, frontier.depth(shown.exit), drafted=accepted))
        if row.finish or not accepted:
            break
    row.stats.accepted += right
    row.odds.judged(right + rejected, right)  # drafts that an end cut off say nothing
    row.watch.judged(right + rejected, right)
    if 0 < len(events) <= len(drafts):
        row.memory = drafts[len(events) - 1].memory
    return events + failure, len(events)
