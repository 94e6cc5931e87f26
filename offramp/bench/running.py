"""Rows of our engine under a clock: prompts first, all rows from their second token on together."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from offramp.engine.engine import Engine
from offramp.engine.reply import TokenEvent
from offramp.engine.request import Request


@contextmanager
def no_collector() -> Iterator[None]:
    """Python's garbage collector comes before the clock starts, and not again."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def begin(engine: Engine, requests: Iterable[Request]) -> dict[int, TokenEvent]:
    """By the requests' numbers, in their order, the first token of each; a row that has it waits for the others.

    engine: one with slots for all of them, at which nothing else runs.
    """
    numbers = [engine.add(request) for request in requests]
    first: dict[int, TokenEvent] = {}
    while len(first) < len(numbers):
        for event in engine.step():
            first[event.request] = event
            engine.pause(event.request)
    for number in numbers:
        engine.pause(number, False)
    return {number: first[number] for number in numbers}
