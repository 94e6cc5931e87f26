"""One random model, rows of every propagation in one batch, two schedules, alone and in shared slots.

`World` names everything a wrong reading may replace, so an ablation is a world with one class changed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from .integrity import check
from .mixers import Mixer, Storage, fresh
from .model import Model
from .oracle import Trace, plain_decode, same, teacher_force
from .propagation import PROPAGATIONS, Propagation
from .request import Request
from .row import Row
from .sampling import Noise, gumbel
from .schedule import serve
from .slots import Pool, serve_in_slots
from .tiny import random_model, random_request

Check = tuple[str, bool]  # (what was held against what, did it hold)


@dataclass(frozen=True)
class World:
    """The readings in force. The default is the specification itself."""

    row: type[Row] = Row
    mixers: dict[str, type[Mixer]] = field(default_factory=dict)
    propagations: dict[str, Propagation] = field(default_factory=lambda: PROPAGATIONS)
    noise: Noise = gumbel
    drains: Callable[[Row], None] | None = None  # lossy rows drained early


@dataclass(frozen=True)
class Setting:
    """What a trial draws from."""

    propagations: Sequence[str] = tuple(PROPAGATIONS)
    policy: str | None = None
    backbone: str | None = None
    bridge: str | None = None
    request: dict[str, Any] = field(default_factory=dict)  # fields that every request has


class Trial:
    """The model, the requests and their oracles of one seed."""

    def __init__(self, seed: int, setting: Setting, world: World) -> None:
        self.seed, self.world, rng = seed, world, Random(seed)
        self.model = random_model(rng, world.mixers, setting.backbone, setting.bridge)
        self.requests = [
            replace(random_request(rng, self.model, name, setting.policy, world.noise), **setting.request)
            for name in setting.propagations
        ]
        self.plain = [plain_decode(self.model, request) for request in self.requests]
        self.checks: list[Check] = []
        self.rows: list[Row] = []

    def make_row(self, model: Model, request: Request, storage: Storage = fresh) -> Row:
        return self.world.row(model, request, storage, self.world.propagations)

    def run(self) -> None:
        """Serve everything in every way and collect the checks."""
        everyone = range(len(self.requests))
        try:
            self.rows, other = self._served(everyone, 1), self._served(everyone, 2)
            alone = [self._served([i], 3 + i)[0] for i in everyone]
            in_slots = self._served_in_slots()
        except (AssertionError, IndexError) as broken:
            self.checks = [(f"integrity: {broken}", False)]
            return
        self.checks.append(("integrity", True))
        for row, plain, *others in zip(self.rows, self.plain, other, alone, in_slots, strict=True):
            self.checks += _verify_is_plain([row, *others], plain)
            self.checks += _schedule_free(row, others, exact=self.world.drains is None)
            self.checks += _defer_is_one_by_one(row)
            if type(row.request.policy).__name__ == "Never":
                self.checks.append(("never == no exits", outcome(row) == (plain.emitted, plain.ended)))

    def _served(self, indices: Sequence[int], salt: int) -> list[Row]:
        rows = [self.make_row(self.model, self.requests[i]) for i in indices]
        serve(rows, Random(self.seed * 100 + salt), self._after, self.world.drains)
        return rows

    def _served_in_slots(self) -> list[Row]:
        """Two slots for all, reused at once, half of the time as left by the former owner, else poisoned."""
        rng, pool = Random(self.seed * 100), Pool(2)

        def released(slot: int) -> None:
            if rng.random() < 0.5:
                pool.poison(slot)

        return serve_in_slots(self.model, self.requests, pool, rng, self.make_row, self._after, released)

    def _after(self, row: Row) -> None:
        """After every visit. A row just judged must look as if the rejected tokens had never been."""
        check(row)
        at_rest = row.station == 0 and row.frontier[0] == row.frontier[-1]
        if not (row.propagation.judged and at_rest and row.emitted):
            return
        plain = self.plain[next(i for i, request in enumerate(self.requests) if request is row.request)]
        known = plain.exports.get(row.frontier[0])
        ok = row.frontier[0] == len(row.tokens) - 1 and known is not None and same(row.export(), known)
        self.checks.append(("rollback", ok))
        self.checks.append(("policy rollback", row.memory == row.memory_after[row.frontier[0] - 1]))


def outcome(row: Row) -> tuple[list, str | None]:
    """All a caller sees: tokens, log-probabilities, exits, and why the row ended."""
    return row.emitted, row.ended


def _verify_is_plain(rows: Sequence[Row], plain: Trace) -> Iterator[Check]:
    """Design 4.5 and 4.9."""
    for row in rows:
        if row.propagation.judged:
            kind = "greedy" if row.request.sampling.greedy else "sampled"
            yield f"verify == plain, {kind}", outcome(row) == (plain.emitted, plain.ended)


def _schedule_free(row: Row, others: Sequence[Row], exact: bool) -> Iterator[Check]:
    """Design 4.7: neighbours, batch size, slots and schedule change nothing. In verify, depths may differ."""
    if not row.propagation.judged:
        for other, where in zip(others, ("schedule", "alone", "slots"), strict=True):
            same_depth = not exact or row.frontier == other.frontier
            yield f"{row.request.propagation}: {where}", outcome(row) == outcome(other) and same_depth


def _defer_is_one_by_one(row: Row) -> Iterator[Check]:
    """Design 4.6: drained, defer has left what the same prompt cells and the same tokens one by one leave."""
    if row.request.propagation == "defer":
        consumed = row.frontier[0]
        row.drain()
        fed = row.tokens[len(row.request.prompt) : consumed]
        truth = teacher_force(row.model, row.request, fed).exports[consumed]
        yield "defer drained == one by one", same(row.export(), truth) and set(row.frontier) == {consumed}


def run_trial(seed: int, setting: Setting | None = None, world: World | None = None) -> Trial:
    trial = Trial(seed, setting or Setting(), world or World())
    trial.run()
    return trial
