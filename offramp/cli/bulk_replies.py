"""Many prompts through one engine, and their replies in the order of the prompts."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from offramp.cli.bulk_prompts import Task
from offramp.engine.engine import Engine, fold
from offramp.engine.reply import Generation, TokenEvent
from offramp.evaluation.metrics import mean_depth


@dataclass(frozen=True)
class Answer:
    """line: of the output, with its end. failed: whether it holds an error."""

    line: bytes
    failed: bool


@dataclass
class Place:
    """Of a line in the output, while its answer is not there, or waits for one before it."""

    answer: Answer | None = None


@dataclass(frozen=True)
class Running:
    """A task in the engine, and its events so far."""

    task: Task
    place: Place
    events: list[TokenEvent] = field(default_factory=list)


@dataclass(frozen=True)
class Window:
    """How far a run may get ahead of one slow reply. lines: answered or running; bytes: of the answers that wait."""

    lines: int = 1024
    bytes: int = 1 << 26

    def takes_more(self, order: Sequence[Place]) -> bool:
        waiting = sum(len(place.answer.line) for place in order if place.answer is not None)
        return len(order) < self.lines and waiting < self.bytes


def answers(
    engine: Engine,
    tasks: Iterable[Task],
    seen: Callable[[Sequence[TokenEvent]], None],
    window: Window = Window(),
) -> Iterator[Answer]:
    """The tasks' answers, in order. Tasks are taken as slots get free; `seen` hears of every turn's events.

    Nothing is taken while as much waits as the window allows: memory stays bounded.
    """
    left, order, running = iter(tasks), deque[Place](), dict[int, Running]()
    ended = False
    while order or not ended:
        while not ended and len(running) < engine.slots and window.takes_more(order):
            task = next(left, None)
            if task is None:
                ended = True
                break
            order.append(place := Place())
            if task.request is None:
                place.answer = _line(task, {"error": task.error})
            else:
                running[engine.add(task.request)] = Running(task, place)
            yield from _ready(order)
        if running:
            _turn(engine, running, seen)
        yield from _ready(order)


def _ready(order: deque[Place]) -> Iterator[Answer]:
    """The answers that nothing before them holds up."""
    while order and (answer := order[0].answer) is not None:
        order.popleft()
        yield answer


def _turn(engine: Engine, running: dict[int, Running], seen: Callable[[Sequence[TokenEvent]], None]) -> None:
    """One turn of the engine; those that it ended have their answers and run no more."""
    events = engine.step()
    seen(events)
    for event in events:
        running[event.request].events.append(event)
        if event.finish:
            ended = running.pop(event.request)
            ended.place.answer = _answer(ended.task, fold(ended.events))


def _answer(task: Task, reply: Generation) -> Answer:
    """A reply cut short because the model gave no number has its beginning and an error."""
    error = reply.events[-1].error
    said = {
        "text": reply.text,
        "tokens": reply.tokens,
        "finish": reply.finish,
        "depth": round(mean_depth([reply]), 3),
        **({"error": error} if error else {}),
    }
    return _line(task, said)


def _line(task: Task, said: dict[str, object]) -> Answer:
    name = {} if task.id is None else {"id": task.id}
    item = {"index": task.index, **name, **said, "key": task.key}
    return Answer(json.dumps(item).encode() + b"\n", "error" in said)
