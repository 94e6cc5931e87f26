"""CoQA (Reddy et al. 2019): a conversation about a passage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from offramp.evaluation.similarity import exact_match, f1
from offramp.evaluation.tasks._items import Items
from offramp.evaluation.tasks._rows import Row
from offramp.evaluation.tasks.base import GenerationTask


@dataclass(frozen=True)
class Turn:
    """text: passage and conversation up to the question. answers: of several people, no two the same."""

    text: str
    answers: tuple[str, ...]


class Coqa(Items[Turn], GenerationTask):
    """The last question of each conversation, with the right answers to those before it. coqa-dev-v1.0.json, or the
    hub's rows.

    em, f1: against all people's answers but one, mean over which one is left out, as CoQA compares people themselves.
    """

    headline = "f1"
    hub = "EleutherAI/coqa:default:validation"
    stop = ("\nQ:",)

    @classmethod
    def parse(cls, row: Row) -> Iterator[Turn]:
        asked = [turn.text("input_text") for turn in row.rows("questions")]
        said = _answers(row, "answers", len(asked))
        others = row.row("additional_answers") if row.fields.get("additional_answers") else None
        found = [said[-1]]
        for person in others.fields if others else ():
            answer = _answers(others or row, person, len(asked))[-1]
            if answer.lower() not in map(str.lower, found):
                found.append(answer)
        turns = "".join(f"Q: {q}\n\nA: {a}\n\n" for q, a in zip(asked, said[:-1], strict=False))
        yield Turn(f"{row.text('story')}\n\n{turns}Q: {asked[-1]}\n\nA:", tuple(found))

    def question(self, item: Turn) -> str:
        return item.text

    def answer(self, item: Turn) -> str:
        return f" {item.answers[0]}"

    def score(self, i: int, answer: str) -> dict[str, float]:
        said, golds = answer.strip().split("\n")[0], self.items[i].answers
        against = [golds[:k] + golds[k + 1 :] or golds for k in range(len(golds))]
        return {
            "em": sum(exact_match(said, rest) for rest in against) / len(golds),
            "f1": sum(f1(said, rest) for rest in against) / len(golds),
        }


def _answers(row: Row, field: str, count: int) -> list[str]:
    answers = [turn.text("input_text") for turn in row.rows(field)]
    if not answers or len(answers) != count:
        raise row.wrong(field, f"an answer for each of the {count} questions")
    return answers
