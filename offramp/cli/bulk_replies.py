"""Many prompts through one engine, and their replies in the order of the prompts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from offramp.cli.bulk_prompts import Task
from offramp.engine.engine import Engine, fold
from offramp.engine.reply import Generation, TokenEvent
from offramp.evaluation.metrics import mean_depth

WINDOW = 1024
"""Replies that may wait in memory for one before them, with those that still run."""

Answer = dict[str, object]
"""A line of the output, before its key."""


def answers(
    engine: Engine,
    tasks: Iterable[Task],
    seen: Callable[[Sequence[TokenEvent]], None],
    window: int = WINDOW,
) -> Iterator[tuple[Task, Answer]]:
    """Each task with its answer, in order. Tasks are taken as slots get free; `seen` hears of every turn's events.

    Nothing is taken that lies `window` tasks behind one that still runs: what waits stays bounded.
    """
    left = iter(tasks)
    order: deque[Task] = deque()
    running: dict[int, tuple[Task, list[TokenEvent]]] = {}
    done: dict[int, Answer] = {}
    ended = False
    while True:
        while not ended and len(running) < engine.slots and len(order) < window:
            task = next(left, None)
            if task is None:
                ended = True
                break
            order.append(task)
            if task.request is None:
                done[task.line.index] = _refusal(task)
            else:
                running[engine.add(task.request)] = (task, [])
        while order and order[0].line.index in done:
            task = order.popleft()
            yield task, done.pop(task.line.index)
        if ended and not order:
            return
        if running:
            for task, reply in _turn(engine, running, seen):
                done[task.line.index] = _answer(task, reply)


def _turn(
    engine: Engine,
    running: dict[int, tuple[Task, list[TokenEvent]]],
    seen: Callable[[Sequence[TokenEvent]], None],
) -> Iterator[tuple[Task, Generation]]:
    """One turn of the engine; those that it ended run no more."""
    events = engine.step()
    seen(events)
    for event in events:
        task, before = running[event.request]
        before.append(event)
        if event.finish:
            del running[event.request]
            yield task, fold(before)


def _refusal(task: Task) -> Answer:
    return {**_name(task), "error": task.error}


def _answer(task: Task, reply: Generation) -> Answer:
    """A reply cut short because the model gave no number has its beginning and an error."""
    error = reply.events[-1].error
    return {
        **_name(task),
        "text": reply.text,
        "tokens": reply.tokens,
        "finish": reply.finish,
        "depth": round(mean_depth([reply]), 3),
        **({"error": error} if error else {}),
    }


def _name(task: Task) -> Answer:
    return {"index": task.line.index, **({} if task.id is None else {"id": task.id})}
