"""What a multiple choice is worth."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from offramp.evaluation.tasks.base import Scored


@dataclass(frozen=True)
class Choices:
    """A question and its choices, as they are written. right: those that are right."""

    question: str
    choices: tuple[str, ...]
    right: tuple[int, ...]


def accuracy(scored: Sequence[Scored], right: Collection[int]) -> float:
    """Whether the likeliest choice is right; of equal ones the first counts."""
    return float(_likeliest([choice.total for choice in scored]) in right)


def accuracy_per_character(scored: Sequence[Scored], choices: Sequence[str], right: Collection[int]) -> float:
    """The same of logprobs divided by the choices' lengths (the harness's `acc_norm`)."""
    totals = [choice.total / len(text) for choice, text in zip(scored, choices, strict=True)]
    return float(_likeliest(totals) in right)


def _likeliest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
