"""What an exit says of the rows whose newest tokens reach it: who leaves, with which token.

Shapes: R rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

import torch
from torch import Tensor

from offramp.engine.frontier import Frontier, Pass
from offramp.engine.reply import Choice
from offramp.engine.row import Row
from offramp.engine.sampler import are_sound, choose_each
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
    leaving = exit.look(sorted(wishes))
    frontier.unpeek(s, [rows[i].slot for i in exit.seen if i not in leaving])
    return {
        i: Choice(said.token, said.logprob, said.best, s, gates[i], rows[i].memory)
        for i, said in zip(leaving, exit.choose(leaving), strict=True)
    }


class _Exit:
    """Exit s and the rows whose newest tokens have reached it. seen: the bridge's logits `[V]`, of rows it was asked
    for."""

    def __init__(self, frontier: Frontier, s: int, rows: Sequence[Row], passed: Pass) -> None:
        self.frontier, self.s, self.rows, self.passed = frontier, s, rows, passed
        self.seen: dict[int, Tensor] = {}

    def look(self, wanted: list[int]) -> list[int]:
        """Ask the bridge for these rows' logits, where that has not been done; the rows for which they are sound."""
        new = [i for i in wanted if i not in self.seen]
        if new:
            assert self.passed.bridged_RD is not None
            slots = [self.rows[i].slot for i in new]
            logits_RV = self.frontier.peek(self.s, self.passed.bridged_RD[new], slots)
            self.seen.update(zip(new, logits_RV, strict=True))
        fine = are_sound(self._logits(wanted)) if wanted else []
        return [i for i, is_fine in zip(wanted, fine, strict=True) if is_fine]

    def _logits(self, wanted: list[int]) -> Tensor:
        return torch.stack([self.seen[i] for i in wanted])

    def ask(self, group: list[int], free: set[int]) -> list[int]:
        """Those of a group of rows with one policy that leave, as it and the rows' own limits say.

        The policy is asked, and remembers, also where it is overruled.
        """
        policy, passed = self.rows[group[0]].policy, self.passed
        if policy.needs_logits:
            group = self.look(group)
        if not group:
            return []
        assert passed.gate_R is not None
        rows = [self.rows[i] for i in group]
        may = [i in free and row.may_leave() for i, row in zip(group, rows, strict=True)]
        signal = Signal(
            exit=self.s,
            depth=self.frontier.depth(self.s),
            blocks=self.frontier.depth(None),
            gate_R=passed.gate_R[group],
            entering_RD=passed.entering_RD[group],
            leaving_RD=passed.leaving_RD[group],
            index=[len(row.tokens) - len(row.request.prompt) for row in rows],
            max_tokens=[row.request.most for row in rows],
            may_leave=may,
            logits_RV=self._logits(group) if policy.needs_logits else None,
        )
        wants_R, memories = policy(signal, [row.memory for row in rows])
        wants = wants_R.tolist()
        for row, memory, wish in zip(rows, memories, wants, strict=True):
            row.memory = memory
            if self.s == 0:
                row.odds.asked(wish)
        return [i for i, wish, allowed in zip(group, wants, may, strict=True) if wish and allowed]

    def choose(self, leaving: list[int]) -> list[Choice]:
        if not leaving:
            return []
        rows = [self.rows[i] for i in leaving]
        return choose_each(
            self._logits(leaving),
            [row.tokens for row in rows],
            [row.request.sampling for row in rows],
            [row.forced() for row in rows],
        )


def alike(numbers: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """Rows' numbers, grouped by what `key` says of them; each group in order."""
    groups: dict[Hashable, list[int]] = {}
    for i in numbers:
        groups.setdefault(key(i), []).append(i)
    return list(groups.values())
