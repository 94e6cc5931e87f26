"""ROUGE-L, exact match and F1 against other people's implementations."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.tasks.qasper.metrics import normalize_answer
from rouge_score.rouge_scorer import RougeScorer

from offramp.evaluation.similarity import (
    exact_match,
    f1,
    longest_common,
    normalised,
    same_first_line,
    similarity,
)

WORDS = st.lists(
    st.sampled_from("the an a cat's cat CAT on mat, ,; . 3 x_y un-der".split(" ")), max_size=12
).map(" ".join)
ASCII = st.text(st.characters(max_codepoint=127), max_size=40)
ROUGE = RougeScorer(["rougeL"])


@given(WORDS | ASCII, WORDS | ASCII)
def test_similarity_is_rouge_l(a: str, b: str) -> None:
    theirs = ROUGE.score(a, b)["rougeL"].fmeasure
    assert similarity(a, b) == pytest.approx(1.0 if a == b else theirs)


@given(st.text(), st.text())
def test_similarity_is_symmetric_and_a_share(a: str, b: str) -> None:
    assert 0 <= similarity(a, b) == similarity(b, a) <= 1 == similarity(a, a)


def test_similarity_knows_other_scripts() -> None:
    """rouge-score sees no letter in these."""
    assert similarity("Где живёт кот", "где живёт пёс") == pytest.approx(2 / 3)


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_longest_common_is_that_of_all_subsequences(a: list[str], b: list[str]) -> None:
    def subsequences(items: list[str]) -> set[tuple[str, ...]]:
        return {chosen for size in range(len(items) + 1) for chosen in combinations(items, size)}

    assert longest_common(a, b) == max(map(len, subsequences(a) & subsequences(b)))


@given(ASCII | WORDS)
def test_normalised_is_squads(text: str) -> None:
    assert normalised(text) == normalize_answer(text)


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "overlap"),
    [
        ("The cat.", ["cat"], 1.0, 1.0),
        ("a black cat", ["the cat", "a dog"], 0.0, 2 / 3),
        ("cat cat", ["cat"], 0.0, 2 / 3),
        ("the", ["an"], 1.0, 1.0),
        ("", ["cat"], 0.0, 0.0),
        ("Cat", ["dog", "CAT!"], 1.0, 1.0),
    ],
)
def test_exact_match_and_f1(prediction: str, answers: list[str], exact: float, overlap: float) -> None:
    assert exact_match(prediction, answers) == exact
    assert f1(prediction, answers) == pytest.approx(overlap)


@pytest.mark.parametrize(
    ("prediction", "right"),
    [(" Oslo\nQ: more", True), ("\n  Oslo \n", True), ("Oslo city", False), ("", False)],
)
def test_the_first_line_counts(prediction: str, right: bool) -> None:
    assert same_first_line(prediction, " Oslo") is right
