"""The engine: requests in, token events out. `step` reads aloud: schedule, run, commit, collect.

It speaks token ids; text is only watched for stop strings and handed on with the events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import torch

from offramp.engine.admission import Admission, check_counts
from offramp.engine.controller import Controller, Fixed, Odds
from offramp.engine.frontier import Frontier
from offramp.engine.measure import measured
from offramp.engine.memory import check_fit, slots_within
from offramp.engine.monitor import Agreement
from offramp.engine.prompts import Prompts
from offramp.engine.queue import Queue, Waiting
from offramp.engine.reply import Generation, TokenEvent
from offramp.engine.request import Request
from offramp.engine.row import Row, Shared
from offramp.engine.runner import choose_runner
from offramp.engine.scheduler import Scheduler
from offramp.errors import OfframpError, UsageError
from offramp.exits.base import Exit
from offramp.mixers.base import RUN_LIMIT
from offramp.models.base import Model
from offramp.text import Text

DEFAULT_MAX_LEN = 4096
"""Tokens a slot holds when nobody says: enough for most, and no surprise in memory with a 128k context."""
PREFIX_BYTES = 1 << 28
"""Of prompt cells that are remembered when nobody says how many."""


class Engine:
    """Generates with a model and its exits, many sequences at a time, each as if it were alone.

    exits: none runs every token at full depth. slots: sequences running at a time; None: as many as fit `memory`.
    max_len: tokens a slot holds, prompt included (default: the model's context, at most 4,096). memory: bytes that
    all slots together may take (default: half of what is free). tier: "exact" (rows are bit-exact) or "fast" (nothing
    padded); `tier.name` is what could be promised: "exact" or "tolerance". drafts: how many tokens of a row may leave
    the first exit before a deep pass comes; "auto" measures what passes cost here, once a machine and model, and
    decides anew in every cycle (`progress` is told). queue: requests that may wait. prefix_memory: bytes of prompt
    cells kept for prompts that begin alike; 0 keeps none.
    """

    def __init__(
        self,
        model: Model,
        exits: Iterable[Exit] | None = None,
        text: Text | None = None,
        *,
        slots: int | None = 1,
        max_len: int | None = None,
        memory: int | None = None,
        tier: str = "exact",
        drafts: int | str = RUN_LIMIT - 1,
        queue: int = 1024,
        prefix_memory: int = PREFIX_BYTES,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.model, self.exits, self.text = model, tuple(exits or ()), text
        self.max_len = min(DEFAULT_MAX_LEN if max_len is None else max_len, model.config.context_length)
        check_counts(slots=1 if slots is None else slots, max_len=self.max_len, queue=queue)
        self.admission = Admission(model, self.exits, text, self.max_len)
        if slots is None:
            slots = slots_within(model, self.exits, self.max_len, memory)
        elif memory is not None:
            check_fit(model, self.exits, self.max_len, slots, memory)
        runner = choose_runner(tier, model, self.exits)
        self.tier = runner.tier
        with torch.inference_mode():
            self.frontier = Frontier(model, self.exits, slots, self.max_len, runner)
            self.scheduler = Scheduler(_controller(drafts, self.frontier, progress))
        self.slots, self.prompts = slots, Prompts(prefix_memory)
        self.queue = Queue(queue)
        self.odds = Odds()
        self._running: dict[int, Row] = {}
        self._free = list(range(slots))[::-1]
        self._next_id = 0
        self._inbox: dict[int, deque[TokenEvent]] = {}
        self._outbox: list[TokenEvent] = []

    def add(self, request: Request) -> int:
        """Queue a request; its number. Everything about it is checked here.

        Raises UsageError for names, thresholds or tokens that do not fit this engine, CapacityError for a request
        that can never fit a slot, QueueFull where too many wait already.
        """
        self.admission.check(request)
        self._check_room()
        return self._put(request)

    def add_samples(self, request: Request, count: int) -> list[int]:
        """Queue several samples of one prompt, whose prompt is run once: sample i draws with the seed + i.

        Raises what `add` raises; then none is queued.
        """
        check_counts(samples=count)
        self.admission.check(request)
        self._check_room(count)
        shared, sampling = Shared(), request.sampling
        seeds = range(sampling.seed, sampling.seed + count)
        return [self._put(replace(request, sampling=replace(sampling, seed=seed)), shared) for seed in seeds]

    def _check_room(self, count: int = 1) -> None:
        """Raises QueueFull where so many more would have to wait and may not: free slots take some at once."""
        self.queue.check_room(count, soon=len(self._free))

    def _put(self, request: Request, shared: Shared | None = None) -> int:
        number = self._next_id
        self.queue.put(Waiting(number, request, shared))
        self._next_id += 1
        return number

    def step(self) -> list[TokenEvent]:
        """One turn: a prompt cell, a shallow round or a deep pass. Returns what became final since the last call, for
        all requests that were added; the events of a `stream` are its reader's."""
        self._turn()
        events, self._outbox = self._outbox, []
        return events

    @property
    def busy(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self._running or len(self.queue))

    @property
    def agreement(self) -> Agreement:
        """Of all drafts that were judged, how many the full model agreed with: what verified traffic tells for
        nothing."""
        return self.admission.monitor.agreement

    def _turn(self) -> None:
        """Schedule, run and commit, collect.

        An exception in the middle (a processor's, a keyboard's) leaves rows half way: all that run are given up with
        it, and those that wait can go on.
        """
        try:
            with torch.inference_mode():
                self._admit()
                turn = self.scheduler.next(self._running.values())
                self._collect(turn.run(self.frontier, self.prompts) if turn else [])
        except BaseException:
            for number in list(self._running):
                self._release(number)
            raise

    def _admit(self) -> None:
        while len(self.queue) and self._free:
            item, slot = self.queue.take(), self._free.pop()
            stats = self.frontier.reset(slot)
            self._running[item.number] = self.admission.row(item, slot, stats, self.odds.newcomer())

    def _collect(self, events: Sequence[TokenEvent]) -> None:
        """Hand events to the streams that wait for them or to `step`, and free the slots of rows that ended."""
        for event in events:
            self._inbox.get(event.request, self._outbox).append(event)
            if event.finish:
                self._release(event.request)

    def _release(self, number: int) -> None:
        self._free.append(self._running.pop(number).slot)

    def cancel(self, number: int) -> None:
        """Forget a request, queued or running; its slot is free at once. Unknown numbers are ignored."""
        self.queue.forget(number)
        if number in self._running:
            self._release(number)

    def pause(self, number: int, paused: bool = True) -> None:
        """A running request takes no turns until it is paused no more: its reader cannot keep up. It loses nothing
        and keeps its slot. Unknown numbers are ignored."""
        if number in self._running:
            self._running[number].paused = paused

    def stream(self, request: Request) -> Iterator[TokenEvent]:
        """The request's events as they become final; several streams may be read in turn.

        The request is queued when the first event is asked for; leaving the loop early cancels it.
        Raises what `add` raises, at once.
        """
        self.admission.check(request)
        self._check_room()
        return self._events(request)

    def _events(self, request: Request) -> Iterator[TokenEvent]:
        number = self.add(request)
        inbox = self._inbox[number] = deque[TokenEvent]()
        try:
            finished = False
            while not finished:
                if not inbox:
                    self._turn()
                    self._check_alive([number])
                    continue
                event = inbox.popleft()
                finished = event.finish is not None
                yield event
        finally:
            del self._inbox[number]
            self.cancel(number)

    def generate(self, request: Request) -> Generation:
        """The whole reply: the fold of `stream`."""
        return fold(list(self.stream(request)))

    def generate_each(self, requests: Iterable[Request]) -> Iterator[tuple[int, Generation]]:
        """The replies to many requests that run together, as they end, each with its request's place among them.

        Requests are taken when a slot is free, so there may be any number. Leaving the loop early cancels the rest.
        Raises what `add` raises when a request is taken that does not fit.
        """
        left, mine = enumerate(requests), dict[int, tuple[int, list[TokenEvent]]]()
        try:
            while True:
                for place, request in islice(left, max(0, self.slots - len(mine))):
                    mine[number := self.add(request)] = (place, [])
                    self._inbox[number] = deque()
                if not mine:
                    return
                self._turn()
                self._check_alive(number for number in mine if not self._inbox[number])
                for number in [number for number in mine if self._inbox[number]]:
                    place, events = mine[number]
                    events += self._inbox[number]
                    self._inbox[number].clear()
                    if events[-1].finish:
                        del mine[number], self._inbox[number]
                        yield place, fold(events)
        finally:
            for number in mine:
                del self._inbox[number]
                self.cancel(number)

    def generate_all(self, requests: Iterable[Request]) -> list[Generation]:
        """The replies to many requests that run together, in their order. Raises what `add` raises, before any runs."""
        requests = list(requests)
        for request in requests:
            self.admission.check(request)
        return [reply for _, reply in sorted(self.generate_each(requests), key=lambda pair: pair[0])]

    def _check_alive(self, numbers: Iterable[int]) -> None:
        """Raises OfframpError for a request without events that neither waits nor runs: another reader's turn failed,
        or it was cancelled."""
        for number in numbers:
            if not (self._inbox[number] or number in self._running or number in self.queue):
                raise OfframpError(
                    f"request {number} was given up: it was cancelled, or a turn of the engine failed."
                )

    def check_integrity(self) -> None:
        """Every slot has one owner or none; each row's frontiers and rings agree with its tokens."""
        owned = [row.slot for row in self._running.values()]
        assert sorted(owned + self._free) == list(range(len(owned) + len(self._free))), (
            "a slot is owned twice"
        )
        for row in self._running.values():
            self.frontier.check_integrity(row.slot)
            consumed = self.frontier.segments[0].frontier(row.slot)
            fed = len(row.tokens) - (not row.stays)  # the newest token is in where it stays
            assert consumed == (fed if row.prompted else row.prefilled)
            owed = [segment.ring.waiting[row.slot] for segment in self.frontier.segments[1:]]
            assert bool(sum(owed)) == bool(row.stays or row.drafts or (row.propagation.waits and row.run))


def _controller(drafts: int | str, frontier: Frontier, progress: Callable[[str], None] | None) -> Controller:
    if drafts == "auto":
        return measured(frontier, progress)
    if isinstance(drafts, int) and 0 <= drafts < RUN_LIMIT:
        return Fixed(drafts)
    raise UsageError(f'drafts is {drafts!r}; it must be a count from 0 to {RUN_LIMIT - 1}, or "auto".')


def fold(events: Sequence[TokenEvent]) -> Generation:
    """A finished request's events as one reply."""
    finish, stats = events[-1].finish, events[-1].stats
    assert finish is not None and stats is not None
    tokens = tuple(event.token for event in events if event.token >= 0)
    return Generation(tokens, "".join(event.text for event in events), tuple(events), finish, stats)
