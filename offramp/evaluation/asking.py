"""A task's questions put to an engine: each item's requests, and what comes back as plain numbers.

Generation, choices and whole texts run alike: an item is one request or several, and items run together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from offramp.engine.engine import Engine
from offramp.engine.reply import Generation
from offramp.engine.request import Request, Sampling
from offramp.errors import UsageError
from offramp.evaluation.replies import Prompted, Reply, reply_of
from offramp.evaluation.scoring import encode_pair, fitted, rolling, score_full, scored
from offramp.evaluation.tasks.base import ChoiceTask, GenerationTask, RollingTask, Scored, Task
from offramp.models.base import Model
from offramp.text import Text

Answer = Reply | tuple[Scored, ...]
"""What was written, or what was said of each text that was given."""
Pair = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Asked:
    """An item as tokens: contexts, and what is to be scored after each (nothing where the model is to write).

    cut: how many tokens of a context did not fit, and were left out at its beginning.
    """

    item: int
    pairs: tuple[Pair, ...]
    cut: int = 0

    def tokens(self) -> int:
        """Of all contexts and what follows them."""
        return sum(len(context) + len(given) for context, given in self.pairs)


@dataclass(frozen=True)
class Asking:
    """How a task is put to a model whose slots hold max_len tokens; max_tokens: of a reply, None: the task's own."""

    task: Task
    text: Text
    max_len: int
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        writes = isinstance(self.task, GenerationTask)
        if self.max_tokens is not None and not writes:
            raise UsageError(
                "max_tokens is for tasks whose answers are written; this one scores given texts."
            )
        if writes and not 0 < self.most < self.max_len:
            raise UsageError(
                f"max_tokens is {self.most}; with {self.max_len} tokens for a prompt and its reply it must be "
                f"between 1 and {self.max_len - 1}."
            )

    @property
    def most(self) -> int:
        """Tokens of a reply; 0 where nothing is written."""
        own = self.task.max_tokens if isinstance(self.task, GenerationTask) else 0
        return own if self.max_tokens is None else self.max_tokens

    @property
    def stop(self) -> tuple[str, ...]:
        return self.task.stop if isinstance(self.task, GenerationTask) else ()

    def asked(self, i: int) -> Asked:
        """Item i as tokens."""
        match self.task:
            case GenerationTask():
                return self._fit(i, [(self.text.encode(self.task.prompt(i)), [])])
            case ChoiceTask():
                prompt = self.task.prompt(i)
                return self._fit(i, [encode_pair(self.text, prompt, c) for c in self.task.choices(i)])
            case RollingTask():
                return self._fit(i, rolling(self.text, self.task.text(i), self.max_len - 1))
        raise AssertionError(f"{type(self.task).__name__} is no kind of task")

    def _fit(self, i: int, pairs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Asked:
        """Contexts without what does not fit; a window of a whole text always fits."""
        found, cut = list[Pair](), 0
        for context, given in pairs:
            short = fitted(context, max(1, self.max_len - (len(given) or self.most)))
            cut = max(cut, len(context) - len(short))
            found.append((tuple(short), tuple(given)))
        return Asked(i, tuple(found), cut)

    def prompted(self, asked: Asked) -> Prompted:
        """An item that the model writes an answer to."""
        [(context, _)] = asked.pairs
        return Prompted(str(asked.item), context, self.most, self.stop)

    def requests(self, base: Request, asked: Asked) -> list[Request]:
        """base: the setting, as a request of any prompt. Given texts are scored without temperature and penalties."""
        if self.most:
            [(context, _)] = asked.pairs
            return [replace(base, prompt=context, max_tokens=self.most, stop=self.stop)]
        plain = replace(base, sampling=Sampling(), certificate=None)
        return [replace(plain, prompt=context, forced=given) for context, given in asked.pairs]

    def scores(self, i: int, answer: Answer) -> dict[str, float]:
        """What the answer to item i is worth, by the task's own scores."""
        match self.task, answer:
            case GenerationTask(), Reply():
                return self.task.score(i, answer.text)
            case ChoiceTask(), tuple():
                return self.task.score(i, answer)
            case RollingTask(), tuple():
                return self.task.score(i, _joined(answer))
        raise AssertionError("the answer is not of the task's kind")


def answers(
    engine: Engine, base: Request, asking: Asking, items: Iterable[Asked]
) -> Iterator[tuple[Asked, Answer]]:
    """The answers as they end; as many requests run together as the engine has slots. Raises what `add` raises."""
    open_items, places = dict[int, _Open](), list[tuple[int, int]]()

    def requests() -> Iterator[Request]:
        for asked in items:
            open_items[asked.item] = _Open(asked)
            for part, request in enumerate(asking.requests(base, asked)):
                places.append((asked.item, part))
                yield request

    for place, generation in engine.generate_each(requests()):
        number, part = places[place]
        item = open_items[number]
        item.parts[part] = generation
        if len(item.parts) == len(item.asked.pairs):
            yield item.asked, item.answer(asking)
            del open_items[number]


@dataclass
class _Open:
    """An item of which some requests are answered."""

    asked: Asked
    parts: dict[int, Generation] = field(default_factory=dict)
    began: float = field(default_factory=perf_counter)

    def answer(self, asking: Asking) -> Answer:
        if asking.most:
            return reply_of(str(self.asked.item), self.parts[0], perf_counter() - self.began)
        return tuple(scored(self.parts[part]) for part in sorted(self.parts))


def full_scores(model: Model, items: Iterable[Asked]) -> Iterator[tuple[Asked, Answer]]:
    """The answers at full depth where nothing is written, item by item, whole sequences at a time."""
    for asked in items:
        yield asked, tuple(score_full(model, asked.pairs))


def _joined(windows: Sequence[Scored]) -> Scored:
    """A text that was scored in several windows."""
    return Scored(
        tuple(logprob for window in windows for logprob in window.logprobs),
        all(window.greedy for window in windows),
        tuple(depth for window in windows for depth in window.depths),
    )
