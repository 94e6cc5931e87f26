"""The engine: requests in, token events out. `step` reads aloud: admit, run, collect.

It speaks token ids; text is only watched for stop strings and handed on with the events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch

from offramp.engine.decode import step
from offramp.engine.frontier import Frontier
from offramp.engine.sequence import Generation, Request, TokenEvent
from offramp.engine.sequence import Sequence as Row
from offramp.engine.tier import choose_tier
from offramp.errors import CapacityError, UsageError
from offramp.exits.base import Exit
from offramp.exits.positions import check_positions
from offramp.exits.untrained import abstain
from offramp.models.base import Block, Model
from offramp.policies.base import ExitPolicy
from offramp.propagation.base import Propagation
from offramp.registry import find, names
from offramp.text import Text, TextStream

DEFAULT_MAX_LEN = 4096
"""Tokens a slot holds when nobody says: enough for most, and no surprise in memory with a 128k context."""


class Engine:
    """Generates with a model and its exits.

    exits: none runs every token at full depth. slots: sequences running at a time. max_len: tokens a slot holds,
    prompt included (default: the model's context, at most 4,096). tier: "exact" (rows are bit-exact, chunks padded)
    or "fast" (nothing padded). `tier.name` is what could be promised: "exact" or "tolerance".
    """

    def __init__(
        self,
        model: Model,
        exits: Iterable[Exit] | None = None,
        text: Text | None = None,
        *,
        slots: int = 1,
        max_len: int | None = None,
        tier: str = "exact",
    ) -> None:
        self.model, self.exits, self.text = model, tuple(exits or ()), text
        self.max_len = min(DEFAULT_MAX_LEN if max_len is None else max_len, model.config.context_length)
        _check_sizes(slots, self.max_len)
        _check_exits(self.exits, model.config.num_blocks)
        self.tier = choose_tier(tier, model, self.exits)
        with torch.inference_mode():
            self.frontier = Frontier(model, self.exits, slots, self.max_len, self.tier)
        self._waiting: deque[tuple[int, Request]] = deque()
        self._running: dict[int, Row] = {}
        self._free = list(range(slots))
        self._next_id = 0
        self._inbox: dict[int, deque[TokenEvent]] = {}
        self._outbox: list[TokenEvent] = []

    def add(self, request: Request) -> int:
        """Queue a request; its number. Everything about it is checked here.

        Raises UsageError for names, thresholds or tokens that do not fit this engine, CapacityError for a prompt
        that can never fit a slot.
        """
        self._check(request)
        number, self._next_id = self._next_id, self._next_id + 1
        self._waiting.append((number, request))
        return number

    def _check(self, request: Request) -> None:
        self._parts_of(request)
        if len(request.prompt) >= self.max_len:
            raise CapacityError(
                f"the prompt has {len(request.prompt)} tokens; this engine's slots hold {self.max_len}, prompt and "
                f"reply together (the model's context is {self.model.config.context_length}). Shorten the prompt"
                " or give the engine a larger max_len."
            )
        vocab = self.model.config.vocab_size
        strange = [token for token in request.prompt if not 0 <= token < vocab]
        if strange:
            raise UsageError(f"prompt token {strange[0]} is outside the vocabulary of {vocab}.")
        if request.stop and self.text is None:
            raise UsageError("stop strings need a tokenizer: give the engine a Text.")

    def _parts_of(self, request: Request) -> tuple[Propagation, ExitPolicy]:
        propagation = find("offramp.propagation", request.propagation, Propagation)()
        mixers = [cast(Block, block).mixer for block in self.model.blocks]
        propagation.check(mixers, [exit.after for exit in self.exits])
        policy = find("offramp.policies", request.policy, ExitPolicy)
        if policy.needs_gate and abstain(self.exits):
            raise UsageError(_no_gate(request.policy))
        given, wanted = request.thresholds, len(self.exits)
        if len(given) not in (1, wanted) and wanted:
            raise UsageError(f"{len(given)} thresholds for {wanted} exits; give one, or one for each.")
        return propagation, policy(given * wanted if len(given) == 1 else given)

    def step(self) -> list[TokenEvent]:
        """One turn of every running row. Returns what became final since the last call, for all requests that
        were added; the events of a `stream` are its reader's."""
        self._turn()
        events, self._outbox = self._outbox, []
        return events

    def _turn(self) -> None:
        """Admit, run, collect."""
        self._admit()
        with torch.inference_mode():
            events = [event for row in self._running.values() for event in step(self.frontier, row)]
        self._collect(events)

    def _admit(self) -> None:
        while self._waiting and self._free:
            number, request = self._waiting[0]
            self._running[number] = self._row(number, request, self._free[-1])
            self._waiting.popleft()
            self._free.pop()

    def _row(self, number: int, request: Request, slot: int) -> Row:
        propagation, policy = self._parts_of(request)
        eos = frozenset() if request.ignore_eos else frozenset(self.model.config.eos_token_ids)
        with torch.inference_mode():
            stats = self.frontier.reset(slot)
        return Row(
            id=number,
            request=request,
            slot=slot,
            propagation=propagation,
            policy=policy,
            stream=TextStream(self.text, request.stop) if self.text is not None else None,
            stats=stats,
            limit=self.max_len,
            eos=eos,
            tokens=list(request.prompt),
            memory=policy.init_state(),
        )

    def _collect(self, events: Sequence[TokenEvent]) -> None:
        """Hand events to the streams that wait for them or to `step`, and free the slots of rows that ended."""
        for event in events:
            self._inbox.get(event.request, self._outbox).append(event)
        for row in [row for row in self._running.values() if row.finish]:
            self._release(row)

    def _release(self, row: Row) -> None:
        del self._running[row.id]
        self._free.append(row.slot)

    def cancel(self, number: int) -> None:
        """Forget a request, queued or running; its slot is free at once. Unknown numbers are ignored."""
        self._waiting = deque(item for item in self._waiting if item[0] != number)
        if number in self._running:
            self._release(self._running[number])

    def stream(self, request: Request) -> Iterator[TokenEvent]:
        """The request's events as they become final; several streams may be read in turn.

        The request is queued when the first event is asked for; leaving the loop early cancels it.
        Raises what `add` raises, at once.
        """
        self._check(request)
        return self._events(request)

    def _events(self, request: Request) -> Iterator[TokenEvent]:
        number = self.add(request)
        inbox = self._inbox[number] = deque[TokenEvent]()
        try:
            finished = False
            while not finished:
                if not inbox:
                    self._turn()
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


def _check_sizes(slots: int, max_len: int) -> None:
    for name, value in (("slots", slots), ("max_len", max_len)):
        if value < 1:
            raise UsageError(f"{name} is {value}; it must be a count of at least 1.")


def _check_exits(exits: Sequence[Exit], num_blocks: int) -> None:
    """Exits sit inside this model, and one that borrows the last block leaves something to skip."""
    if not exits:
        return
    check_positions([exit.after for exit in exits], num_blocks)
    if exits[-1].bridge.borrows_last_block and exits[-1].after == num_blocks - 1:
        raise UsageError(
            f"the exit after block {num_blocks - 1} of {num_blocks} saves nothing: its bridge runs the last block."
        )


def _no_gate(policy: str) -> str:
    """What is wrong with a policy that asks gates where there are none, and which would have worked."""
    package = "offramp.policies"
    others = [name for name in names(package) if not find(package, name, ExitPolicy).needs_gate]
    return (
        f"policy {policy} asks the exits' gates, and untrained exits have none. Policies that work with them: "
        f"{', '.join(others)}. `offramp train` trains gates."
    )


def fold(events: Sequence[TokenEvent]) -> Generation:
    """A finished request's events as one reply."""
    finish, stats = events[-1].finish, events[-1].stats
    assert finish is not None and stats is not None
    tokens = tuple(event.token for event in events if event.token >= 0)
    return Generation(tokens, "".join(event.text for event in events), tuple(events), finish, stats)
