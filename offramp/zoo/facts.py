"""Closed-book facts about invented entities: what a model can only know from training.

Every fact is stated and asked in training, but each keeps one phrasing of its question back; training meets
that phrasing with other entities only. The test asks there: it measures knowledge, not memory of a sentence.
"""

import random
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from offramp.zoo.rows import Row, Segment

_QUESTION_SHARE = 0.7  # facts that were only ever stated are not found again by a question


@dataclass(frozen=True)
class Relation:
    """One thing to know about entities of a kind."""

    kind: str
    name: str
    answers: tuple[str, ...]
    statements: tuple[str, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """One entity's answer in one relation, and the phrasing kept for the test."""

    entity: str
    relation: Relation
    answer: str
    held_out: int

    @property
    def training_questions(self) -> list[str]:
        """The phrasings that training may use."""
        return [q for i, q in enumerate(self.relation.questions) if i != self.held_out]

    def prompt(self, phrasing: str) -> str:
        """The question, up to where the answer begins."""
        return f"Question: {phrasing.format(name=self.entity)}\nAnswer:"

    @property
    def test_prompt(self) -> str:
        """The question as training never asked it."""
        return self.prompt(self.relation.questions[self.held_out])


def load_relations() -> list[Relation]:
    """The relations of `facts.toml`."""
    data = tomllib.loads(resources.files("offramp.zoo").joinpath("facts.toml").read_text())
    return [_relation(entry, data["vocabulary"]) for entry in data["relation"]]


def invent_facts(names: Sequence[str], seed: int, relations: Sequence[Relation]) -> list[Fact]:
    """Four facts for every name: the names take turns at the kinds, the answers are drawn evenly."""
    rng = random.Random(f"facts {seed}")
    kinds = list(dict.fromkeys(relation.kind for relation in relations))
    facts = []
    for i, name in enumerate(names):
        own = [relation for relation in relations if relation.kind == kinds[i % len(kinds)]]
        held_out = rng.randrange(len(own[0].questions))
        for j, relation in enumerate(own):
            facts.append(
                Fact(name, relation, rng.choice(relation.answers), (held_out + j) % len(relation.questions))
            )
    return facts


def fact_rows(facts: Sequence[Fact], seed: int) -> Iterator[Row]:
    """Packs of four to eight statements and questions about different facts, without end."""
    rng = random.Random(f"fact rows {seed}")
    deck: list[Fact] = []
    while True:
        size = rng.randint(4, 8)
        if len(deck) < size:  # going through a shuffled deck meets every fact equally often
            deck = rng.sample(facts, len(facts))
        pack, deck = deck[:size], deck[size:]
        yield [segment for fact in pack for segment in _say_or_ask(fact, rng)]


def _say_or_ask(fact: Fact, rng: random.Random) -> Row:
    if rng.random() < _QUESTION_SHARE:
        question = fact.prompt(rng.choice(fact.training_questions))
        return [Segment(question), Segment(f" {fact.answer}", is_answer=True), Segment("\n")]
    statement = rng.choice(fact.relation.statements).format(name=fact.entity, answer=fact.answer)
    return [Segment(statement[0].upper() + statement[1:] + "\n")]


def _relation(entry: dict[str, str | list[str]], vocabulary: dict[str, list[str]]) -> Relation:
    return Relation(
        kind=str(entry["kind"]),
        name=str(entry["name"]),
        answers=tuple(vocabulary[str(entry["answers"])]),
        statements=tuple(entry["statements"]),
        questions=tuple(entry["questions"]),
    )
