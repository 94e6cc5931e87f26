"""GSM8K (Cobbe et al. 2021): sums in words, reckoned step by step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from offramp.evaluation.tasks._items import Items
from offramp.evaluation.tasks._rows import Row
from offramp.evaluation.tasks.base import GenerationTask

STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_IGNORED = tuple(map(re.compile, (",", r"\$", "(?s:.*)#### ", r"\.$")))


@dataclass(frozen=True)
class Sum:
    question: str
    answer: str


class Gsm8k(Items[Sum], GenerationTask):
    """Is the number right: strict_match, the first after "####"; flexible_extract, the last of all? test.jsonl."""

    headline = "strict_match"
    shots = 5
    hub = "openai/gsm8k:main:test"
    max_tokens = 256
    stop = ("Question:", "</s>", "<|im_end|>")

    @classmethod
    def parse(cls, row: Row) -> Iterator[Sum]:
        if not STRICT.search(row.text("answer")):
            raise row.wrong("answer", 'a solution that ends with "#### " and a number')
        yield Sum(row.text("question"), row.text("answer"))

    def question(self, item: Sum) -> str:
        return f"Question: {item.question}\nAnswer:"

    def answer(self, item: Sum) -> str:
        return f" {item.answer}"

    def score(self, i: int, answer: str) -> dict[str, float]:
        right = _number(self.items[i].answer)
        strict, flexible = STRICT.findall(answer), FLEXIBLE.findall(answer)
        return {
            "strict_match": float(bool(strict) and _number(strict[0]) == right),
            "flexible_extract": float(bool(flexible) and _number(flexible[-1].strip()) == right),
        }


def _number(text: str) -> str:
    """What is left of a solution or a number as it is compared."""
    for ignored in _IGNORED:
        text = ignored.sub("", text)
    return text.lower()
