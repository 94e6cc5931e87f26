"""Many requests through one engine: how they come and go, what each says, and what it would say alone."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from random_models import CONTEXT, VOCAB, Tiny

from offramp.engine.controller import Controller, Prospect
from offramp.engine.engine import Engine
from offramp.engine.reply import TokenEvent
from offramp.engine.request import Request, Sampling
from offramp.registry import names
from offramp.text import Text

PROPAGATIONS = tuple(names("offramp.propagation"))
POLICIES = (("always", 0.5), ("gate", 0.5), ("confidence", 0.15), ("patience", 0.5), ("calm", 0.3))

Said = list[tuple[object, ...]]
"""What can be seen of a reply, event by event; numbers as text, so that NaN equals itself."""


def said(request: Request, events: Iterable[TokenEvent]) -> Said:
    """Where a token left is the schedule's under `verify`, and the row's own otherwise."""
    judged = request.propagation == "verify"
    return [
        (e.token, e.logprob.hex(), e.best, e.text, e.index, e.finish, e.error)
        + (() if judged else (e.depth, str(e.gate)))
        for e in events
    ]


def random_request(rng: random.Random, propagation: str, most: int = 16) -> Request:
    policy, threshold = rng.choice(POLICIES)
    return Request(
        prompt=tuple(rng.randrange(1, VOCAB) for _ in range(rng.choice([1, 2, 5, 20]))),
        propagation=propagation,
        policy=policy,
        thresholds=(threshold,),
        run_max=rng.choice([1, 3, 8, 15]),
        sampling=Sampling(
            temperature=rng.choice([0.0, 0.7, 1.0]),
            top_p=rng.choice([1.0, 0.9]),
            repetition_penalty=rng.choice([1.0, 1.3]),
            seed=rng.randrange(1000),
        ),
        max_tokens=rng.choice([1, 3, most, most]),
        ignore_eos=rng.random() < 0.7,
    )


@dataclass
class Alone:
    """What requests say alone. Under `verify` that is what the model says without exits."""

    setup: Tiny
    max_len: int = CONTEXT
    text: Text | None = None
    known: dict[Request, Said] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model, exits = self.setup.model, self.setup.exits
        self.lossy = Engine(model, exits, self.text, max_len=self.max_len, prefix_memory=0)
        self.plain = Engine(model, None, self.text, max_len=self.max_len, prefix_memory=0)

    def says(self, request: Request) -> Said:
        if request not in self.known:
            engine = self.plain if request.propagation == "verify" else self.lossy
            self.known[request] = said(request, engine.stream(request))
        return self.known[request]


@dataclass(frozen=True)
class Visit:
    """A request, the step before which it is added, and the one before which it is cancelled, if any."""

    request: Request
    comes: int = 0
    goes: int | None = None


def visits(
    requests: Iterable[Request], rng: random.Random, every: int = 2, cancelled: float = 0.2
) -> list[Visit]:
    """They come one by one, on average `every` steps; a share of them is cancelled before it may end."""
    step, found = 0, []
    for request in requests:
        goes = step + rng.randrange(30) if rng.random() < cancelled else None
        found.append(Visit(request, step, goes))
        step += rng.randrange(2 * every + 1)
    return found


def drive(engine: Engine, traffic: Sequence[Visit]) -> list[list[TokenEvent]]:
    """Steps until all have ended; each visit's events. The engine's integrity is looked into after every step."""
    numbers: dict[int, int] = {}
    events: list[list[TokenEvent]] = [[] for _ in traffic]
    step = 0
    while len(numbers) < len(traffic) or engine.busy:
        for i, visit in enumerate(traffic):
            if visit.comes == step:
                numbers[engine.add(visit.request)] = i
        for number, i in numbers.items():
            if traffic[i].goes == step:
                engine.cancel(number)
        for event in engine.step():
            events[numbers[event.request]].append(event)
        engine.check_integrity()
        step += 1
    return events


def differing(
    traffic: Sequence[Visit], events: Sequence[Sequence[TokenEvent]], alone: Alone
) -> list[tuple[Visit, Said]]:
    """The visits that said anything else than they say alone; of one that was cancelled, than its beginning."""
    found = []
    for visit, mine in zip(traffic, events, strict=True):
        ours, wanted = said(visit.request, mine), alone.says(visit.request)
        ended = bool(mine) and mine[-1].finish is not None
        if ours != (wanted if visit.goes is None or ended else wanted[: len(ours)]):
            found.append((visit, ours))
    return found


@dataclass(frozen=True)
class Whims(Controller):
    """Another d in every cycle."""

    rng: random.Random

    def drafts(self, rows: Sequence[Prospect]) -> int:
        return self.rng.choice([0, 1, 2, 4, 15])
