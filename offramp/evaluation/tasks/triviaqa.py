"""TriviaQA without its documents (Joshi et al. 2017): closed-book questions."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from dataclasses import dataclass

from offramp.evaluation.tasks._items import Items
from offramp.evaluation.tasks._rows import Row
from offramp.evaluation.tasks.base import GenerationTask

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Question:
    text: str
    answers: tuple[str, ...]


class TriviaQA(Items[Question], GenerationTask):
    """Is the answer, up to a period or comma, one of the aliases? DPR's .tsv, or the hub's rows."""

    headline = "exact_match"
    shots = 2
    hub = "mandarjoshi/trivia_qa:rc.nocontext:validation"
    columns = ("question", "answers")
    stop = ("\n", ".", ",")

    @classmethod
    def parse(cls, row: Row) -> Iterator[Question]:
        answers = _listed(row) if "answers" in row else row.row("answer").texts("aliases")
        yield Question(row.text("question"), tuple(answers))

    def question(self, item: Question) -> str:
        # The harness adds a question mark to questions that have one; its figures are of that prompt.
        return f"Question: {item.text}?\nAnswer:"

    def answer(self, item: Question) -> str:
        return f" {item.answers[0]}"

    def score(self, i: int, answer: str) -> dict[str, float]:
        right = {_plain(alias) for alias in self.items[i].answers}
        return {"exact_match": float(_plain(answer.strip()) in right)}


def _listed(row: Row) -> list[str]:
    """The answers of a .tsv file, a list as Python writes it."""
    written = row.fields["answers"]
    if isinstance(written, str):
        try:
            written = ast.literal_eval(written)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise row.wrong("answers", "a list of texts, as Python writes it") from error
    return Row({"answers": written}, row.where).texts("answers")


def _plain(text: str) -> str:
    return text.lower().translate(_NO_PUNCTUATION)
