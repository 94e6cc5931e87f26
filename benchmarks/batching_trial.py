"""One timed run of a mode: every slot holds a row whose prompt has run, then the clock starts.

It stops when the rows have said so many tokens in all, while each of them could still go on. So slots are full from
the first tick to the last, as behind a queue that never empties, and a mode in which rows go at different speeds is
not charged for a batch that runs dry at its end. Token ids in, token ids out: nothing is decoded to text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time

from batching_reads import WeightReads

from offramp.bench.running import begin, no_collector
from offramp.engine.engine import Engine
from offramp.engine.load import Checkpoint
from offramp.engine.reply import TokenEvent
from offramp.engine.request import Request
from offramp.errors import UsageError
from offramp.zoo.prompts import load_prompts

MAX_LEN = 512
"""The twins' context."""
SHORTEST = 30
"""Tokens of a prompt, at least."""

Prompts = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class Mode:
    """propagation: None runs without exits. drafts: the shallow rounds a cycle may add; "auto": the controller."""

    name: str
    propagation: str | None = None
    drafts: int | str = 0
    tier: str = "fast"


@dataclass(frozen=True)
class Trial:
    """One run of one mode.

    gaps: seconds between a row's tokens; of tokens that become final together all but the first waited 0.
    depths: blocks before each token's choice. reads: weight bytes. accepted: of a judgement, by row, how many drafts.
    """

    seconds: float
    cpu: float
    gaps: Sequence[float]
    depths: Sequence[int]
    reads: int
    drafts: int
    accepted: Sequence[int]

    @property
    def tokens(self) -> int:
        return len(self.gaps)

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds

    @property
    def cpu_rate(self) -> float:
        """Tokens a second of processor time: what other programs took does not count."""
        return self.tokens / max(self.cpu, 1e-9)


class Runner:
    """A mode's engine with `batch` slots. started: seconds until it was ready, the controller's timings included."""

    def __init__(self, checkpoint: Checkpoint, mode: Mode, batch: int) -> None:
        assert checkpoint.info is not None
        self.mode, self.thresholds = mode, checkpoint.info.thresholds
        exits = checkpoint.exits if mode.propagation else None
        began = perf_counter()
        self.engine = Engine(
            checkpoint.model, exits, slots=batch, max_len=MAX_LEN, tier=mode.tier, drafts=mode.drafts
        )
        self.started = perf_counter() - began
        self.reads = WeightReads(self.engine.frontier)

    def run(self, prompts: Prompts, tokens: int) -> Trial:
        """One trial: a row for each prompt, `tokens` of each on average. Raises UsageError if that is too many."""
        numbers = list(begin(self.engine, map(self._request, prompts)))
        self.reads.bytes = 0
        with no_collector():
            began, cpu = perf_counter(), process_time()
            said = list(self._decode(len(prompts) * tokens))
            seconds, cpu = said[-1][1] - began, process_time() - cpu
        stats = self.engine.frontier.stats
        by_row = [[(event, when) for event, when in said if event.request == number] for number in numbers]
        trial = Trial(
            seconds=seconds,
            cpu=cpu,
            gaps=[gap for row in by_row for gap in _gaps([began, *(when for _, when in row)])],
            depths=[event.depth for event, _ in said],
            reads=self.reads.bytes,
            drafts=sum(row.drafts for row in stats),
            accepted=[count for row in by_row for count in _accepted([event for event, _ in row])],
        )
        for number in numbers:
            self.engine.cancel(number)
        return trial

    def _request(self, prompt: tuple[int, ...]) -> Request:
        propagation = self.mode.propagation or "verify"
        thresholds = self.thresholds if self.mode.propagation else (0.5,)
        most = MAX_LEN - len(prompt)
        return Request(prompt, propagation, "gate", thresholds, max_tokens=most, ignore_eos=True)

    def _decode(self, tokens: int) -> Iterator[tuple[TokenEvent, float]]:
        """Step until so many tokens are final; each with the time at which it was."""
        said = 0
        while said < tokens:
            events = self.engine.step()
            now = perf_counter()
            said += len(events)
            for event in events:
                if event.finish:
                    raise UsageError("a row came to the end of its context; ask for fewer --tokens.")
                yield event, now


def _gaps(times: Sequence[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def _accepted(events: Sequence[TokenEvent]) -> list[int]:
    """How many drafts each judgement accepted: a judgement ends with the token that the last segment said itself."""
    ends = [i for i, event in enumerate(events) if not event.drafted]
    return [end - before - 1 for before, end in itertools.pairwise([-1, *ends])]


def load_beginnings(checkpoint: Checkpoint) -> Prompts:
    """Beginnings of the bundled held-out code prompts, cut at the ends of lines, long ones first: no two are equal."""
    assert checkpoint.text is not None
    by_prompt = []
    for prompt in load_prompts():
        if prompt.kind == "code":
            lines = prompt.prompt.split("\n")
            cuts = ["\n".join(lines[:end]) for end in range(len(lines), 0, -1) if lines[end - 1].strip()]
            by_prompt.append([tuple(checkpoint.text.encode(cut)) for cut in cuts])
    taken = [ids for level in itertools.zip_longest(*by_prompt, fillvalue=()) for ids in level]
    return [ids for ids in taken if len(ids) >= SHORTEST]
