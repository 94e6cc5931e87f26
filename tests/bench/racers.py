"""Engines that are made up: so fast, or out at some point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from offramp.bench.bound import Bound
from offramp.bench.contender import Job, NotRun, Prompt, Turn
from offramp.bench.worker import Ready

PROMPTS = [[(1, 2)], [(3,)]]


def job(engine: str) -> Job:
    return Job(engine, Path("model"), Path("scratch"), tokens=4, max_len=16, threads=1)


def turn(rate: float = 100.0, tokens: Sequence[int] = (1, 2, 3, 4, 5), **other: float) -> Turn:
    return Turn(0.01, 4, 4 / rate, (tuple(tokens),), **other)


@dataclass
class Racer:
    """Takes its turns from a list, over and over. fails: at which call of `turn`; -1 when it is loaded."""

    name: str
    turns: Sequence[Turn]
    calls: list[tuple[str, Sequence[Prompt]]]
    fails: int | None = None
    found: Bound | None = None
    done: int = 0
    closed: list[str] = field(default_factory=list)

    def ready(self, prompts: Sequence[Prompt]) -> Ready:
        if self.fails == -1:
            raise NotRun("broken from the start")
        return Ready("offramp test", 1 << 20)

    def turn(self, prompts: Sequence[Prompt]) -> Turn:
        self.calls.append((self.name, prompts))
        if self.done == self.fails:
            raise NotRun("broken later")
        self.done += 1
        return self.turns[(self.done - 1) % len(self.turns)]

    def bound(self, prompts: Sequence[Prompt]) -> Bound | None:
        if self.found is None and self.name == "verify":
            raise NotRun("no bound")
        return self.found

    def close(self) -> None:
        self.closed.append(self.name)
