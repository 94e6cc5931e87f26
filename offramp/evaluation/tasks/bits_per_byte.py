"""Bits per byte: how well the model foresees whole texts, whatever its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Iterator

from offramp.evaluation.tasks._items import Items
from offramp.evaluation.tasks._rows import Row
from offramp.evaluation.tasks.base import RollingTask, Scored


class BitsPerByte(Items[str], RollingTask):
    """Bits that the model needs for a byte of UTF-8; smaller is better. A .txt file, or texts of a .jsonl file
    ("text", or "page" as WikiText's rows have it)."""

    headline = "bits_per_byte"
    hub = "EleutherAI/wikitext_document_level:wikitext-2-raw-v1:test"
    official = False

    @classmethod
    def parse(cls, row: Row) -> Iterator[str]:
        yield row.text("page" if "page" in row else "text")

    def question(self, item: str) -> str:
        return ""

    def answer(self, item: str) -> str:
        return item

    def text(self, i: int) -> str:
        return self.items[i]

    def weight(self, i: int) -> float:
        return float(len(self.items[i].encode()))

    def score(self, i: int, scored: Scored) -> dict[str, float]:
        return {"bits_per_byte": -scored.total / math.log(2) / self.weight(i)}
