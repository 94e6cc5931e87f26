"""Replies as plain numbers: generated once, kept in a file, measured as often as wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from time import perf_counter
from typing import Any, Self

from offramp.engine.engine import Engine
from offramp.engine.reply import Generation, Stats
from offramp.engine.request import Request
from offramp.errors import DataError
from offramp.evaluation.setting import Setting
from offramp.propagation.base import Work


@dataclass(frozen=True)
class Prompted:
    """A prompt's tokens and where its reply ends. ends: a good reply comes to an end by itself (an answer does, a
    text that is merely continued does not)."""

    id: str
    tokens: tuple[int, ...]
    max_tokens: int
    stop: tuple[str, ...] = ()
    ends: bool = True


@dataclass(frozen=True)
class Reply:
    """One finished generation.

    prompt: the `Prompted`'s id. pieces: the text that became certain with each token; together they are `text`.
    depths, gates: of each token, as in `TokenEvent`. The counters are those of `Stats`; work: by part and verb
    (passes, tokens). seconds: from the moment that it had a slot to its end, in the company in which it ran.
    """

    prompt: str
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    depths: tuple[int, ...]
    gates: tuple[float | None, ...]
    finish: str
    block_tokens: int = 0
    block_passes: int = 0
    head_rows: int = 0
    head_passes: int = 0
    drafts: int = 0
    accepted: int = 0
    seconds: float = 0.0
    work: Mapping[str, Mapping[str, tuple[int, int]]] | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def stats(self) -> Stats:
        """The counters as the engine gave them."""
        names = [field.name for field in fields(Stats) if field.name not in ("tokens", "work")]
        work = {part: _work(verbs) for part, verbs in (self.work or {}).items()}
        return Stats(len(self.tokens), **{name: getattr(self, name) for name in names}, work=work)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Raises DataError for anything that `to_json` has not written."""
        try:
            found = cls(**{name: _KINDS[name](value) for name, value in raw.items()})
            if len({len(each) for each in (found.tokens, found.pieces, found.depths, found.gates)}) > 1:
                raise ValueError("as many pieces, depths and gates as tokens")
            return found
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as problem:
            raise DataError(f"not a reply: {problem!r}; it must be what `Reply.to_json` gives") from problem


def replies(engine: Engine, setting: Setting, prompts: Sequence[Prompted]) -> list[Reply]:
    """The replies to many prompts, in their order: as many run together as the engine has slots.

    Raises UsageError or CapacityError, before any runs, where one does not fit the engine.
    """
    requests = [setting.request(prompt.tokens, prompt.max_tokens, prompt.stop) for prompt in prompts]
    for request in requests:
        engine.admission.check(request)
    began: list[float] = []
    found = {
        place: reply_of(prompts[place].id, generation, perf_counter() - began[place])
        for place, generation in engine.generate_each(_noting(requests, began))
    }
    return [found[place] for place in range(len(prompts))]


def _noting(requests: Iterable[Request], began: list[float]) -> Iterator[Request]:
    """The requests, with the moment at which each is taken."""
    for request in requests:
        began.append(perf_counter())
        yield request


def reply_of(prompt: str, generation: Generation, seconds: float = 0.0) -> Reply:
    """A generation as plain numbers; `prompt` is the prompt's id."""
    stats = generation.stats
    events = [event for event in generation.events if event.token >= 0]
    pieces = [event.text for event in events]
    if pieces:
        pieces[-1] += "".join(event.text for event in generation.events if event.token < 0)
    return Reply(
        prompt=prompt,
        tokens=generation.tokens,
        pieces=tuple(pieces),
        depths=tuple(event.depth for event in events),
        gates=tuple(event.gate for event in events),
        finish=generation.finish,
        block_tokens=stats.block_tokens,
        block_passes=stats.block_passes,
        head_rows=stats.head_rows,
        head_passes=stats.head_passes,
        drafts=stats.drafts,
        accepted=stats.accepted,
        seconds=seconds,
        work={
            part: {verb: (work.passes[verb], work.tokens[verb]) for verb in work.passes}
            for part, work in stats.work.items()
            if work.passes
        },
    )


def _work(verbs: Mapping[str, tuple[int, int]]) -> Work:
    passes = {verb: counts[0] for verb, counts in verbs.items()}
    return Work(Counter(passes), Counter({verb: counts[1] for verb, counts in verbs.items()}))


def _counts(raw: Mapping[str, Any] | None) -> dict[str, dict[str, tuple[int, int]]] | None:
    if raw is None:
        return None
    return {
        part: {verb: (int(passes), int(tokens)) for verb, (passes, tokens) in verbs.items()}
        for part, verbs in raw.items()
    }


def _texts(raw: Sequence[Any]) -> tuple[str, ...]:
    return tuple(map(str, raw))


def _ints(raw: Sequence[Any]) -> tuple[int, ...]:
    return tuple(map(int, raw))


def _floats(raw: Sequence[Any]) -> tuple[float | None, ...]:
    return tuple(None if value is None else float(value) for value in raw)


_KINDS: dict[str, Any] = {
    **dict.fromkeys(("prompt", "finish"), str),
    **dict.fromkeys(("tokens", "depths"), _ints),
    **dict.fromkeys(("block_tokens", "block_passes", "head_rows", "head_passes", "drafts", "accepted"), int),
    **dict(pieces=_texts, gates=_floats, seconds=float, work=_counts),
}
"""How each field is read back from JSON."""
