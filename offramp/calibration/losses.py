"""The loss of one document, in [0, 1]: how far a reply is from what the full model would have given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from offramp.calibration.items import Item
from offramp.engine.request import Request
from offramp.errors import UsageError
from offramp.evaluation.agreement import full_choices
from offramp.evaluation.replies import Reply
from offramp.evaluation.similarity import exact_match, f1, similarity
from offramp.models.base import Model
from offramp.registry import unknown


@dataclass(frozen=True)
class Case:
    """A reply, what was asked for, and the full model's own reply to the same (None: the metric needs none)."""

    model: Model
    item: Item
    request: Request
    reply: Reply
    full: Reply | None


@dataclass(frozen=True)
class Metric:
    """binary: the loss is 0 or 1. compares: it needs the full model's reply. asks: it needs right answers."""

    loss: Callable[[Case], float]
    binary: bool = False
    compares: bool = True
    asks: bool = False


def agreement(case: Case) -> float:
    """Share of emitted tokens that the full model would not have chosen after the same tokens, with the same noise."""
    tokens = case.reply.tokens
    if not tokens:  # the model's logits were no numbers
        return 1.0
    chosen = full_choices(case.model, case.request.prompt, tokens, case.request.sampling)
    return sum(token != choice for token, choice in zip(tokens, chosen, strict=True)) / len(tokens)


def consistency(case: Case) -> float:
    """1 - ROUGE-L of the reply and the full model's own."""
    assert case.full is not None
    return 1 - similarity(case.reply.text, case.full.text)


def lost(score: Callable[[str, tuple[str, ...]], float]) -> Callable[[Case], float]:
    """What of the full model's score is lost; what is gained counts as nothing."""

    def loss(case: Case) -> float:
        assert case.full is not None
        full, ours = (score(reply.text, case.item.answers) for reply in (case.full, case.reply))
        return max(0.0, full - ours)

    return loss


METRICS = {
    "agreement": Metric(agreement, compares=False),
    "consistency": Metric(consistency),
    "exact_match": Metric(lost(exact_match), binary=True, asks=True),
    "f1": Metric(lost(f1), asks=True),
}


def metric_named(name: str) -> Metric:
    """Raises UsageError for another name."""
    if name not in METRICS:
        raise UsageError(unknown("metric", name, METRICS))
    return METRICS[name]
