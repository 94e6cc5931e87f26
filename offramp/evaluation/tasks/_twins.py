"""What the twins' own tasks share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from offramp.evaluation.similarity import same_first_line
from offramp.evaluation.tasks._items import Items
from offramp.evaluation.tasks._rows import Row
from offramp.evaluation.tasks.base import GenerationTask


@dataclass(frozen=True)
class Question:
    prompt: str
    answer: str


class TwinsTask(Items[Question], GenerationTask):
    """Records of a "prompt" and its "answer". Right is a reply whose first line is the answer."""

    headline = "exact_match"
    official = False
    max_tokens = 16
    stop = ("\n",)

    @classmethod
    def parse(cls, row: Row) -> Iterator[Question]:
        yield Question(row.text("prompt"), row.text("answer"))

    def question(self, item: Question) -> str:
        return item.prompt

    def answer(self, item: Question) -> str:
        return item.answer

    def score(self, i: int, answer: str) -> dict[str, float]:
        return {"exact_match": float(same_first_line(answer, self.items[i].answer))}
