"""Closed-book facts: every one is asked in training, and never in the phrasing its test uses."""

from collections import Counter
from itertools import islice

import pytest

from offramp.zoo.facts import Fact, fact_rows, invent_facts, load_relations
from offramp.zoo.names import make_pools
from offramp.zoo.rows import row_text

FACTS = invent_facts(make_pools(0).entities, 0, load_relations())


@pytest.fixture(scope="module")
def training_text() -> str:
    return "".join(row_text(row) for row in islice(fact_rows(FACTS, 0), 6000))


def asked(fact: Fact, phrasing: str) -> str:
    return fact.prompt(phrasing) + f" {fact.answer}\n"


def test_every_entity_has_four_facts_with_answers_of_their_vocabularies() -> None:
    assert Counter(Counter(fact.entity for fact in FACTS).values()) == {4: 160}
    assert all(fact.answer in fact.relation.answers for fact in FACTS)


def test_relations_have_distinct_phrasings_that_name_the_entity() -> None:
    for relation in load_relations():
        assert len(set(relation.statements)) == 4 and len(set(relation.questions)) == 6
        assert all("{name}" in phrasing for phrasing in relation.statements + relation.questions)
        assert all("{answer}" in statement for statement in relation.statements)


def test_a_facts_own_test_phrasing_never_occurs_in_training(training_text: str) -> None:
    assert not [fact for fact in FACTS if fact.test_prompt in training_text]


def test_every_fact_is_asked_in_training(training_text: str) -> None:
    for fact in FACTS:
        assert any(asked(fact, phrasing) in training_text for phrasing in fact.training_questions)


def test_every_held_out_phrasing_is_trained_with_other_entities() -> None:
    for fact in FACTS:
        others = [
            other for other in FACTS if other.relation == fact.relation and other.held_out != fact.held_out
        ]
        assert len(others) > 10


def test_a_pack_asks_about_different_facts() -> None:
    for row in islice(fact_rows(FACTS, 1), 300):
        lines = [line for line in row_text(row).splitlines() if not line.startswith("Answer:")]
        assert 4 <= len(lines) <= 8 and len(set(lines)) == len(lines)


def test_rows_follow_the_seed() -> None:
    first, again, other = (list(islice(fact_rows(FACTS, seed), 20)) for seed in (5, 5, 6))
    assert first == again != other
