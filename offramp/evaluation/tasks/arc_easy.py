"""ARC-Easy (Clark et al. 2018): science questions for children."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from offramp.evaluation.tasks._choices import Choices, accuracy, accuracy_per_character
from offramp.evaluation.tasks._items import Items
from offramp.evaluation.tasks._rows import Row
from offramp.evaluation.tasks.base import ChoiceTask, Scored


class ArcEasy(Items[Choices], ChoiceTask):
    """Is the likeliest choice right; acc_norm: the likeliest per character? ARC's own .jsonl, llm-foundry's, or the
    hub's rows."""

    headline = "acc"
    hub = "allenai/ai2_arc:ARC-Easy:test"

    @classmethod
    def parse(cls, row: Row) -> Iterator[Choices]:
        if "query" in row:  # llm-foundry's
            choices = row.texts("choices")
            gold = row.index("gold", len(choices))
            yield Choices(row.text("query").removeprefix("Question: "), tuple(choices), (gold,))
            return
        nested = isinstance(row.fields.get("question"), dict)  # ARC's own
        within = row.row("question") if nested else row
        offered = within.rows("choices")
        labels = [choice.text("label") for choice in offered]
        if row.text("answerKey") not in labels:
            raise row.wrong("answerKey", f"one of {', '.join(labels)}")
        gold = labels.index(row.text("answerKey"))
        text = within.text("stem" if nested else "question")
        yield Choices(text, tuple(choice.text("text") for choice in offered), (gold,))

    def question(self, item: Choices) -> str:
        return f"Question: {item.question}\nAnswer:"

    def answer(self, item: Choices) -> str:
        return f" {item.choices[item.right[0]]}"

    def choices(self, i: int) -> list[str]:
        return [f" {choice}" for choice in self.items[i].choices]

    def score(self, i: int, scored: Sequence[Scored]) -> dict[str, float]:
        item = self.items[i]
        return {
            "acc": accuracy(scored, item.right),
            "acc_norm": accuracy_per_character(scored, item.choices, item.right),
        }
