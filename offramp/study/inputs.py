"""What a study reads: text to train on, text to tune on, and prompts with or without a right answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offramp.data.documents import Ids
from offramp.data.jsonl import read_jsonl
from offramp.errors import DataError
from offramp.evaluation.evaluate import Item, unscored
from offramp.evaluation.replies import Prompted
from offramp.evaluation.similarity import same_first_line
from offramp.text import Text

SCORE = "exact_match"


@dataclass(frozen=True)
class Prompt:
    """kind: what results are grouped by.   answer: the first line that is right; None where none is known."""

    id: str
    kind: str
    prompt: str
    max_tokens: int
    answer: str | None = None

    def item(self, encode: Any) -> Item:
        """With an answer the reply ends with its line, and is scored."""
        asked = self.answer is not None
        stop = ("\n",) if asked else ()
        prompted = Prompted(
            f"{self.kind}/{self.id}", tuple(encode(self.prompt)), self.max_tokens, stop, asked
        )
        return Item(prompted, self._score if asked else unscored)

    def _score(self, reply: str) -> Mapping[str, float]:
        return {SCORE: float(same_first_line(reply, self.answer or ""))}


def read_prompts(path: Path) -> list[Prompt]:
    """Raises DataError naming file and line."""
    found = []
    for number, raw in read_jsonl(path):
        try:
            found.append(Prompt(**raw))
        except TypeError as problem:
            raise DataError(f"{path}, line {number}: no prompt of a study: {problem}") from problem
    return found


def items(path: Path, text: Text) -> list[Item]:
    """The prompts as a model's tokens."""
    return [prompt.item(text.encode) for prompt in read_prompts(path)]


def kind_of(prompt_id: str) -> str:
    """The kind of an item, from its id."""
    return prompt_id.partition("/")[0]


def beginnings(path: Path, text: Text, count: int, longest: int) -> list[Ids]:
    """The first `longest` ids of `count` documents, evenly spread over the file. Raises DataError for too little."""
    documents = [raw["text"] for _, raw in read_jsonl(path)]
    chosen = documents[:: max(1, len(documents) // count)][:count]
    found: list[Ids] = [text.encode(document[: 16 * longest])[:longest] for document in chosen]
    if not (found := [ids for ids in found if len(ids) > 1]):
        raise DataError(f"{path} has no text of two tokens to tune on")
    return found


def spread(things: Sequence[Any], count: int) -> list[Any]:
    """`count` of them, evenly spread."""
    return list(things[:: max(1, len(things) // count)][:count])
