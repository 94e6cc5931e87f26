"""One setting on many prompts: everything that is measured, prompt by prompt, as plain numbers.

Nothing is averaged here: `measures` does that later, over items and training seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any, Self

from offramp.engine.engine import Engine
from offramp.engine.request import Sampling
from offramp.errors import DataError, UsageError
from offramp.evaluation.agreement import full_choices
from offramp.evaluation.cost import Cost, Costs, part_costs, run_cost
from offramp.evaluation.degeneration import looping, unfinished
from offramp.evaluation.reduction import corrected, published, published_share, true_shares
from offramp.evaluation.replies import Prompted, Reply, replies
from offramp.evaluation.setting import Setting
from offramp.evaluation.similarity import similarity
from offramp.evaluation.tasks.base import GenerationTask
from offramp.models.base import Model


def unscored(answer: str) -> dict[str, float]:
    """For prompts that have no right answer."""
    return {}


@dataclass(frozen=True)
class Item:
    """A prompt, and what an answer to it is worth. weight: what it counts in the mean of its scores."""

    prompt: Prompted
    score: Callable[[str], Mapping[str, float]] = unscored
    weight: float = 1.0


@dataclass(frozen=True)
class Judged:
    """What is known of one reply.

    agreed: of each token, whether the full model chooses it on the same prefix. scores: of the task, by name.
    similarity: to the full model's own answer, and full_tokens the length of that; None where it was not given.
    published, corrected: of the paper's reduction factor, see `reduction`; None for a propagation it has not.
    cost, full_cost: of the decoding, and of as many tokens at full depth.
    """

    reply: Reply
    agreed: tuple[bool, ...]
    scores: Mapping[str, float]
    weight: float
    unfinished: bool
    looping: bool
    corrected: tuple[float, float]
    published: tuple[float, float] | None
    cost: Cost
    full_cost: Cost
    similarity: float | None = None
    identical: bool | None = None
    full_tokens: int | None = None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            **{
                **raw,
                "reply": Reply.from_json(raw["reply"]),
                "agreed": tuple(map(bool, raw["agreed"])),
                "corrected": _pair(raw["corrected"]),
                "published": None if raw["published"] is None else _pair(raw["published"]),
                "cost": Cost(**raw["cost"]),
                "full_cost": Cost(**raw["full_cost"]),
            }
        )


@dataclass(frozen=True)
class Evaluation:
    """A setting's judged replies, in the order of the items. num_blocks: of the full model. context: the tokens before
    the one whose cost is taken for all, since attention's grows with them: the items' mean."""

    setting: str
    num_blocks: int
    context: int
    items: tuple[Judged, ...]

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Raises DataError for anything that `to_json` has not written."""
        try:
            return cls(**{**raw, "items": tuple(Judged.from_json(item) for item in raw["items"])})
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            raise DataError(
                f"not an evaluation: {problem!r}; it must be what `Evaluation.to_json` gives"
            ) from problem


def evaluate(
    engine: Engine,
    setting: Setting,
    items: Sequence[Item],
    full: Sequence[Reply] | None = None,
    model: Model | None = None,
) -> Evaluation:
    """Run the items and judge what comes. full: the full model's replies to them, in their order.

    model: the full model that is agreed with, where the engine runs another (a pruned one). Raises what `replies` and
    `judge` raise.
    """
    return judge(
        engine, setting, items, replies(engine, setting, [item.prompt for item in items]), full, model
    )


def judge(
    engine: Engine,
    setting: Setting,
    items: Sequence[Item],
    found: Sequence[Reply],
    full: Sequence[Reply] | None = None,
    model: Model | None = None,
) -> Evaluation:
    """Judge replies that the engine gave to the items under this setting; see `evaluate`.

    Raises UsageError where the replies, or the full model's, are not to these items, DataError where another model's
    parts have worked for them.
    """
    _check_same(items, found)
    _check_same(items, full or found)
    model = model or engine.model
    context = _context(items, found)
    costs = part_costs(engine.model, engine.exits, context)
    if strange := [work for reply in found for work in unknown_work(reply, costs)]:
        raise DataError(
            f"replies count {strange[0]}, which this model has not: they are another's; ask again"
        )
    bench = _Bench(
        model,
        setting.sampling,
        costs=costs,
        full_costs=part_costs(model, (), context),
        share=published_share(model, setting.propagation),
    )
    answers: Sequence[Reply | None] = full or [None] * len(items)
    judged = (bench.judged(*one) for one in zip(items, found, answers, strict=True))
    return Evaluation(setting.name, len(model.blocks), context, tuple(judged))


@dataclass(frozen=True)
class _Bench:
    """What all replies are judged with."""

    model: Model
    sampling: Sampling
    costs: Costs
    full_costs: Costs
    share: float | None
    shares: Mapping[str, Mapping[str, float]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", true_shares(self.costs))

    def judged(self, item: Item, reply: Reply, full: Reply | None) -> Judged:
        blocks, length = len(self.model.blocks), len(reply.tokens)
        choices = full_choices(self.model, item.prompt.tokens, reply.tokens, self.sampling)
        return Judged(
            reply=reply,
            agreed=tuple(token == choice for token, choice in zip(reply.tokens, choices, strict=True)),
            scores=dict(item.score(reply.text)),
            weight=item.weight,
            unfinished=unfinished(reply.finish, item.prompt.ends),
            looping=looping(reply.tokens),
            corrected=corrected(reply.stats, length, blocks, self.shares),
            published=None if self.share is None else published(reply.depths, blocks, self.share),
            cost=run_cost(reply.stats, self.costs),
            full_cost=_full_cost(self.full_costs, length),
            similarity=similarity(reply.text, full.text) if full else None,
            identical=reply.tokens == full.tokens if full else None,
            full_tokens=len(full.tokens) if full else None,
        )


def unknown_work(reply: Reply, costs: Costs) -> list[str]:
    """What a reply counts of work that nothing here can have done. costs: of all parts that there are."""
    return [
        f"{verb} of {part}"
        for part, verbs in (reply.work or {}).items()
        for verb in verbs
        if verb not in costs.get(part, {})
    ]


def task_items(task: GenerationTask, encode: Callable[[str], Sequence[int]]) -> list[Item]:
    """A task's questions as items, named by their numbers."""

    def item(i: int) -> Item:
        prompt = Prompted(str(i), tuple(encode(task.prompt(i))), task.max_tokens, task.stop)
        return Item(prompt, lambda answer: task.score(i, answer), task.weight(i))

    return [item(i) for i in range(len(task))]


def _full_cost(costs: Costs, tokens: int) -> Cost:
    """Of a reply at full depth, its first token's blocks apart: those are the prompt's."""
    total = costs["head"]["run"].times(tokens, tokens)
    for part, verbs in costs.items():
        if part.startswith("blocks."):
            total += verbs["run"].times(max(tokens - 1, 0), max(tokens - 1, 0))
    return total


def _context(items: Sequence[Item], found: Sequence[Reply]) -> int:
    """Tokens before the middle of a reply, the items' mean."""
    pairs = zip(items, found, strict=True)
    middles = [len(item.prompt.tokens) + len(reply.tokens) // 2 for item, reply in pairs]
    return round(fmean(middles)) if middles else 0


def _check_same(items: Sequence[Item], found: Sequence[Reply]) -> None:
    asked, answered = [item.prompt.id for item in items], [reply.prompt for reply in found]
    if asked != answered:
        raise UsageError(
            f"{len(answered)} replies are not to these {len(asked)} items: give those to the same prompts, in their "
            "order."
        )


def _pair(raw: Sequence[float]) -> tuple[float, float]:
    part, whole = raw
    return float(part), float(whole)
