"""What the last segment says: it judges the drafts of rows under `verify`, and chooses for all others.

Shapes: R rows, N positions of all rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass

from torch import Tensor

from offramp.engine.frontier import Frontier, Pass
from offramp.engine.sampler import are_sound, choose_each
from offramp.engine.sequence import Choice, Sequence, TokenEvent


@dataclass(frozen=True)
class Place:
    """A position at which the last segment chooses for a row: the tokens before it, and the token if it is forced."""

    row: Sequence
    before: Many[int]
    forced: int | None


def conclude(frontier: Frontier, rows: Many[Sequence], passed: Pass) -> list[TokenEvent]:
    """The last segment chooses: at every pending position of rows that are judged, with the same noise as the drafts
    had; for the newest token alone of the others."""
    places: list[Place] = []
    picked: list[int] = []
    stop = 0
    for row, n in zip(rows, passed.n, strict=True):
        row.arrive()
        stop += n
        mine = _places(row, n if row.propagation.judged else 1)
        places += mine
        picked += range(stop - len(mine), stop)
    said = choose_at(places, frontier.logits(passed.hidden_ND[picked]))
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


def _places(row: Sequence, count: int) -> list[Place]:
    """The row's last `count` positions; each takes it that the drafts before it are right."""
    end, drafts = len(row.tokens), len(row.drafts)
    firsts = range(end - drafts, end - drafts + count)
    return [Place(row, row.tokens[:t], row.forced(t - end)) for t in firsts]


def speak(frontier: Frontier, row: Sequence, logits_V: Tensor) -> list[TokenEvent]:
    """The prompt's own pass gives the first token."""
    said = choose_at(_places(row, 1), logits_V[None])
    return [_final(frontier, row, said[row.id][0])]


def choose_at(places: Many[Place], logits_NV: Tensor) -> dict[int, list[Choice | None]]:
    """What is chosen at each place, by row; None from the row's first place on whose logits are no numbers."""
    sound = are_sound(logits_NV)
    for i in range(1, len(places)):
        sound[i] &= sound[i - 1] or places[i].row is not places[i - 1].row
    kept = [i for i, is_sound in enumerate(sound) if is_sound]
    chosen = choose_each(
        logits_NV if len(kept) == len(places) else logits_NV[kept],
        [places[i].before for i in kept],
        [places[i].row.request.sampling for i in kept],
        [places[i].forced for i in kept],
    )
    found: dict[int, Choice] = dict(zip(kept, chosen, strict=True))
    said: dict[int, list[Choice | None]] = {}
    for i, place in enumerate(places):
        said.setdefault(place.row.id, []).append(found.get(i))
        place.row.stats.head_rows += 1
        place.row.stats.head_passes += len(said[place.row.id]) == 1
    return said


def _final(frontier: Frontier, row: Sequence, choice: Choice | None) -> TokenEvent:
    """One token chosen by the last segment; NaN ends the row instead."""
    depth = frontier.depth(None)
    return row.fail(depth) if choice is None else row.commit(choice, depth, drafted=False)


def judge(frontier: Frontier, row: Sequence, said: Many[Choice | None]) -> tuple[list[TokenEvent], int]:
    """`verify`: commit token by token, until the first end or the first draft that the last segment would not say.

    Gives the events and how many tokens are final. Ends are examined before the rollback, so a finished row's
    frontiers are one less than its tokens.
    """
    drafts, rejected = row.take_drafts(), False
    events: list[TokenEvent] = []
    failure: list[TokenEvent] = []
    for chosen, draft in zip(said, [*drafts, None], strict=False):  # None: after the newest draft
        if chosen is None:
            failure = [row.fail(frontier.depth(None))]
            break
        accepted = draft is not None and draft.token == chosen.token
        rejected = draft is not None and not accepted
        shown = chosen
        if draft and accepted:
            shown = Choice(chosen.token, chosen.logprob, chosen.best, draft.exit, draft.gate)
        row.stats.accepted += accepted
        events.append(row.commit(shown, frontier.depth(shown.exit), drafted=accepted))
        if row.finish or not accepted:
            break
    right = sum(event.drafted for event in events)
    row.odds.judged(right + rejected, right)  # drafts that an end cut off say nothing
    if 0 < len(events) <= len(drafts):
        row.memory = drafts[len(events) - 1].memory
    return events + failure, len(events)
