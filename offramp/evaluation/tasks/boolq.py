"""BoolQ (Clark et al. 2019): a passage, and a question whose answer is yes or no."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from offramp.evaluation.tasks._choices import accuracy
from offramp.evaluation.tasks._items import Items
from offramp.evaluation.tasks._rows import Row
from offramp.evaluation.tasks.base import ChoiceTask, Scored

ANSWERS = ("no", "yes")


@dataclass(frozen=True)
class Question:
    passage: str
    text: str
    yes: bool


class BoolQ(Items[Question], ChoiceTask):
    """Is yes or no likelier, and right? dev.jsonl, llm-foundry's .jsonl, or the hub's rows.

    Each answer is one token for most tokenizers, and a first token always comes from full depth.
    """

    headline = "acc"
    hub = "aps/super_glue:boolq:validation"

    @classmethod
    def parse(cls, row: Row) -> Iterator[Question]:
        if "query" in row:  # llm-foundry's
            passage, found, question = row.text("query").rpartition("\nQuestion: ")
            if not found or not passage.startswith("Passage: "):
                raise row.wrong("query", 'a text of the form "Passage: ...\\nQuestion: ...?"')
            yield Question(
                passage.removeprefix("Passage: "), question.removesuffix("?"), bool(row.index("gold", 2))
            )
        else:
            label = "answer" if "answer" in row else "label"
            yield Question(row.text("passage"), row.text("question"), bool(row.index(label, 2)))

    def question(self, item: Question) -> str:
        return f"{item.passage}\nQuestion: {item.text}?\nAnswer:"

    def answer(self, item: Question) -> str:
        return f" {ANSWERS[item.yes]}"

    def choices(self, i: int) -> list[str]:
        return [f" {answer}" for answer in ANSWERS]

    def score(self, i: int, scored: Sequence[Scored]) -> dict[str, float]:
        return {"acc": accuracy(scored, [int(self.items[i].yes)])}
