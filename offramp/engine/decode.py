"""THE loop. A row's newest token goes down, segment by segment, until an exit lets it leave or the last one speaks.

Everything Offramp does is this walk: `verify`, `defer`, `project` and `skip` differ in what `Frontier.leave` gives
the deeper segments and in whether the last segment judges what left. The schedule decides when `step` is called for
a row; the row alone decides what happens in it.
"""

from __future__ import annotations

from torch import Tensor

from offramp.engine.frontier import Frontier, Pass
from offramp.engine.sampler import choose
from offramp.engine.sequence import Choice, Sequence, TokenEvent
from offramp.mixers.base import CELL
from offramp.policies.base import Signal


def step(frontier: Frontier, row: Sequence) -> list[TokenEvent]:
    """One turn of one row: a prompt cell, one token's way down, or a judgement. Returns what became final."""
    if row.prefilled < len(row.request.prompt):
        return prefill(frontier, row)
    if row.full():
        return judge(frontier, row, drain(frontier, row))
    frontier.feed([row.slot], [row.tokens[-1]])
    for s in range(len(frontier.exits)):
        passed = frontier.run(s, [row.slot])
        if not row.propagation.judged:
            frontier.commit(s, [row.slot], passed.n)
        choice = consider(frontier, row, s, passed)
        if choice is not None:
            frontier.leave(s, passed, [row.slot], row.propagation)
            return row.leave(choice, frontier.depth(s))
    passed = frontier.run(len(frontier.exits), [row.slot])
    row.run = 0
    return judge(frontier, row, passed) if row.propagation.judged else speak(frontier, row, passed)


def prefill(frontier: Frontier, row: Sequence) -> list[TokenEvent]:
    """The next prompt cell at full depth; the last one's head gives the first token."""
    start = row.prefilled
    row.prefilled = min(start + CELL, len(row.request.prompt))
    logits_V = frontier.prefill(row.slot, row.request.prompt[start : row.prefilled])
    return final(frontier, row, logits_V) if row.prefilled == len(row.request.prompt) else []


def consider(frontier: Frontier, row: Sequence, s: int, passed: Pass) -> Choice | None:
    """What exit s would emit for the newest token, or None: it stays. NaN in a gate or a bridge means stay."""
    assert passed.gate_R is not None
    gate = float(passed.gate_R[0])
    if gate != gate:
        return None
    logits_RV = frontier.peek(s, passed, [row.slot]) if row.policy.needs_logits else None
    if (logits_RV is None or _is_sound(logits_RV)) and ask(frontier, row, s, passed, logits_RV):
        logits_RV = frontier.peek(s, passed, [row.slot]) if logits_RV is None else logits_RV
        if _is_sound(logits_RV):
            chosen = choose(logits_RV[0], row.tokens, row.request.sampling)
            return Choice(chosen.token, chosen.logprob, s, gate, row.memory)
    if logits_RV is not None:
        frontier.unpeek(s, [row.slot])
    return None


def ask(frontier: Frontier, row: Sequence, s: int, passed: Pass, logits_RV: Tensor | None) -> bool:
    """The row's policy, then the row's own limits. The policy is asked, and remembers, also when overruled."""
    assert passed.gate_R is not None
    signal = Signal(
        exit=s,
        depth=frontier.depth(s),
        blocks=frontier.depth(None),
        gate_R=passed.gate_R,
        entering_RD=passed.entering_RD,
        leaving_RD=passed.leaving_RD,
        index=[len(row.tokens) - len(row.request.prompt)],
        max_tokens=[row.request.max_tokens],
        may_leave=[row.may_leave()],
        logits_RV=logits_RV,
    )
    leave_R, [row.memory] = row.policy(signal, [row.memory])
    return bool(leave_R[0]) and row.may_leave()


def drain(frontier: Frontier, row: Sequence) -> Pass:
    """`verify`: take what is pending to the end without consuming the newest draft. Nothing is decided."""
    owing = [s for s, segment in enumerate(frontier.segments) if segment.waiting[row.slot]]
    passes = [frontier.run(s, [row.slot]) for s in range(owing[0], len(frontier.segments))]
    row.run = 0
    return passes[-1]


def speak(frontier: Frontier, row: Sequence, passed: Pass) -> list[TokenEvent]:
    """Lossy modes: the last segment chooses for the newest token; nothing is judged."""
    frontier.commit(len(frontier.exits), [row.slot], passed.n)
    return final(frontier, row, frontier.logits(passed.leaving_RD[:, None])[0, 0])


def final(frontier: Frontier, row: Sequence, logits_V: Tensor) -> list[TokenEvent]:
    """One token chosen by the last segment; NaN ends the row instead."""
    row.stats.head_rows += 1
    row.stats.head_passes += 1
    if not _is_sound(logits_V):
        return [row.fail(frontier.depth(None))]
    return [
        row.commit(choose(logits_V, row.tokens, row.request.sampling), frontier.depth(None), drafted=False)
    ]


def judge(frontier: Frontier, row: Sequence, passed: Pass) -> list[TokenEvent]:
    """`verify`: the last segment chooses at every pending position, the same noise as the drafts had.

    Committing goes token by token: the first end or the first draft that differs stops it. Ends are examined
    before the rollback, so a finished row's frontiers are one less than its tokens.
    """
    [n] = passed.n
    drafts = row.take_drafts()
    logits_TV = frontier.logits(passed.hidden_RTD[:, :n])[0]
    row.stats.head_rows += n
    row.stats.head_passes += 1
    events: list[TokenEvent] = []
    failure: list[TokenEvent] = []
    for logits_V, draft in zip(logits_TV, [*drafts, None], strict=False):  # None: after the newest draft
        if not _is_sound(logits_V):
            failure = [row.fail(frontier.depth(None))]
            break
        chosen = choose(logits_V, row.tokens, row.request.sampling)
        accepted = draft is not None and draft.token == chosen.token
        shown = Choice(chosen.token, chosen.logprob, draft.exit, draft.gate) if draft and accepted else chosen
        row.stats.accepted += accepted
        events.append(row.commit(shown, frontier.depth(shown.exit), drafted=accepted))
        if row.finish or not accepted:
            break
    frontier.judge([row.slot], [len(events)])
    if 0 < len(events) <= len(drafts):
        row.memory = drafts[len(events) - 1].memory
    return events + failure


def _is_sound(logits: Tensor) -> bool:
    """No NaN, and a largest number that is finite: otherwise nothing can be chosen from them."""
    return bool(logits.amax(-1).isfinite().all())
