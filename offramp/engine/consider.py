"""What an exit says of the rows whose newest tokens reach it: who leaves, with which token.

Shapes: R rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from offramp.engine.frontier import Frontier, Pass
from offramp.engine.reply import Choice
from offramp.engine.ring import pick
from offramp.engine.row import Row
from offramp.engine.sampler import Place, are_sound, choose_each
from offramp.policies.base import Signal


def consider(
    frontier: Frontier, s: int, rows: Sequence[Row], passed: Pass, drafting: bool
) -> dict[int, Choice]:
    """What exit s emits for the newest token of each row that leaves there, by the row's number among `rows`.

    Without drafting, rows that are judged stay. NaN in a gate or a bridge means stay.
    """
    assert passed.gate_R is not None
    exit = _Exit(frontier, s, rows, passed)
    gates = passed.gate_R.tolist()
    free = {i for i, row in enumerate(rows) if drafting or not row.propagation.judged}
    # Behind the first exit a row that does not stay is drained: its newest token is not here. A policy that remembers
    # nothing is not asked in vain where the answer costs a head.
    asked = [
        i
        for i, row in enumerate(rows)
        if gates[i] == gates[i]
        and (s == 0 or row.stays)
        and (i in free or row.memory or not row.policy.needs_logits)
    ]
    wishes = [i for group in alike(asked, lambda i: id(rows[i].policy)) for i in exit.ask(group, free)]
    said = exit.choose(sorted(wishes))
    frontier.unpeek(s, [rows[i].slot for i in exit.seen if i not in said])
    return {i: replace(choice, exit=s, gate=gates[i], memory=rows[i].memory) for i, choice in said.items()}


class _Exit:
    """Exit s and the rows whose newest tokens have reached it. seen: the bridge's logits `[V]`, of rows it was asked
    for."""

    def __init__(self, frontier: Frontier, s: int, rows: Sequence[Row], passed: Pass) -> None:
        self.frontier, self.s, self.rows, self.passed = frontier, s, rows, passed
        self.seen: dict[int, Tensor] = {}

    def look(self, wanted: Sequence[int]) -> Tensor:
        """The bridge's logits of these rows; it is asked for those that it has not been asked for."""
        new = [i for i in wanted if i not in self.seen]
        for group in alike(new, self._drafts):
            assert self.passed.bridged_RD is not None
            bridged_RD, slots = pick(self.passed.bridged_RD, group), [self.rows[i].slot for i in group]
            logits_RV = self.frontier.peek(self.s, bridged_RD, slots, self._drafts(group[0]))
            self.seen.update(zip(group, logits_RV, strict=True))
        return torch.stack([self.seen[i] for i in wanted])

    def _drafts(self, i: int) -> bool:
        """Whether the row needs no more than the short list's logits, where there is one: what is chosen from them is
        judged, and no policy reads them."""
        row = self.rows[i]
        return self.frontier.draft_head is not None and row.propagation.judged and not row.policy.needs_logits

    def ask(self, group: list[int], free: set[int]) -> list[int]:
        """Those of a group of rows with one policy that leave, as it and the rows' own limits say.

        The policy is asked, and remembers, also where it is overruled.
        """
        policy, passed = self.rows[group[0]].policy, self.passed
        logits_RV = None
        if policy.needs_logits:
            sound = [i for i, fine in enumerate(are_sound(self.look(group))) if fine]
            group = [group[i] for i in sound]
            logits_RV = self.look(group) if group else None
        if not group:
            return []
        assert passed.gate_R is not None
        rows = [self.rows[i] for i in group]
        may = [i in free and row.may_leave() for i, row in zip(group, rows, strict=True)]
        signal = Signal(
            exit=self.s,
            depth=self.frontier.depth(self.s),
            blocks=self.frontier.depth(None),
            gate_R=pick(passed.gate_R, group),
            entering_RD=pick(passed.entering_RD, group),
            leaving_RD=pick(passed.leaving_RD, group),
            index=[len(row.tokens) - len(row.request.prompt) for row in rows],
            max_tokens=[row.request.most for row in rows],
            may_leave=may,
            logits_RV=logits_RV,
        )
        wants_R, memories = policy(signal, [row.memory for row in rows])
        wants = wants_R.tolist()
        for row, memory, wish in zip(rows, memories, wants, strict=True):
            row.memory = memory
            if self.s == 0:
                row.odds.asked(wish)
        return [i for i, wish, allowed in zip(group, wants, may, strict=True) if wish and allowed]

    def choose(self, wishing: Sequence[int]) -> dict[int, Choice]:
        """What rows that want to leave say, by their numbers; those whose logits are no numbers say nothing."""
        if not wishing:
            return {}
        rows = [self.rows[i] for i in wishing]
        places = [Place(row.tokens, row.request.sampling, row.forced()) for row in rows]
        said = zip(wishing, choose_each(self.look(wishing), places), strict=True)
        return {i: choice for i, choice in said if choice is not None}


def alike(numbers: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """Rows' numbers, grouped by what `key` says of them; each group in order."""
    groups: dict[Hashable, list[int]] = {}
    for i in numbers:
        groups.setdefault(key(i), []).append(i)
    return list(groups.values())
