"""LAMBADA (Paperno et al. 2016): the last word of a passage that only the whole passage tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from offramp.evaluation.tasks._items import Items
from offramp.evaluation.tasks._rows import Row
from offramp.evaluation.tasks.base import ChoiceTask, Scored


class Lambada(Items[tuple[str, str]], ChoiceTask):
    """Is the last word, all its tokens, the model's first choice? logprob: its mean; e to the minus that is the
    perplexity. lambada_test.jsonl, or the hub's rows. An item is what comes before the last word, and the word."""

    headline = "acc"
    hub = "EleutherAI/lambada_openai:default:test"

    @classmethod
    def parse(cls, row: Row) -> Iterator[tuple[str, str]]:
        before, space, word = row.text("text").rpartition(" ")
        if not space or not before or not word:
            raise row.wrong("text", "a passage of several words that ends with a word")
        yield before, word

    def question(self, item: tuple[str, str]) -> str:
        return item[0]

    def answer(self, item: tuple[str, str]) -> str:
        return f" {item[1]}"

    def choices(self, i: int) -> list[str]:
        return [self.answer(self.items[i])]

    def score(self, i: int, scored: Sequence[Scored]) -> dict[str, float]:
        [word] = scored
        return {"acc": float(word.greedy), "logprob": word.total}

    def guessing(self, i: int) -> float:
        return 0.0
