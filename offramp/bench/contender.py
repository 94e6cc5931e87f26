"""The contract of everything that is timed: what it is asked to run, and what it tells of a turn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from offramp.bench.bound import Bound
from offramp.errors import OfframpError

Prompt = tuple[int, ...]


class NotRun(OfframpError):
    """Why an engine cannot take part; nothing else fails with it."""


@dataclass(frozen=True)
class Job:
    """What an engine is to run; but for its name the same for all.

    folder: the checkpoint. scratch: where files that an engine needs may be put; gone after the run. tokens: of a
    row and turn, after its first. max_len: a prompt and all it may say. forced: the chance that a draft is right,
    where that is decided by lot. thresholds: None leaves them to the exits. temperature: of ours; others are greedy.
    """

    engine: str
    folder: Path
    scratch: Path
    tokens: int
    max_len: int
    threads: int
    rows: int = 1
    dtype: str = "f32"
    device: str = "cpu"
    exits: str | None = None
    exits_at: tuple[int, ...] | None = None
    policy: str = "gate"
    thresholds: tuple[float, ...] | None = None
    forced: float | None = None
    temperature: float = 0.0


@dataclass(frozen=True)
class Turn:
    """One run of one engine. first: seconds until every row has its first token. decoded: tokens said after that, in
    `seconds`. tokens: by row, the first included. weight_bytes: that a token read, where it is known.
    bandwidth: bytes a second that memory could be read with just afterwards; None where nobody looked."""

    first: float
    decoded: int
    seconds: float
    tokens: tuple[tuple[int, ...], ...]
    weight_bytes: float | None = None
    bandwidth: float | None = None

    @property
    def rate(self) -> float:
        """Tokens a second, after the first ones."""
        return self.decoded / self.seconds

    @property
    def share(self) -> float | None:
        """Of the read bandwidth: weights read a second over what could be read."""
        if self.weight_bytes is None or not self.bandwidth:
            return None
        return self.weight_bytes * self.rate / self.bandwidth


class Contender(ABC):
    """An engine with the model loaded. Made in the process that runs it; may raise anything: then it is not run.

    about: what it is, with its version.
    """

    about: str = ""

    @abstractmethod
    def __init__(self, job: Job) -> None:
        """Raises NotRun where this model or this machine is not for it."""

    @abstractmethod
    def run(self, prompts: Sequence[Prompt]) -> Turn:
        """`job.tokens` for each of `job.rows` prompts after the first, whatever ends a text."""

    def bound(self, prompts: Sequence[Prompt]) -> Bound | None:
        """The most that drafts could gain here; None where nothing is drafted."""
        return None
