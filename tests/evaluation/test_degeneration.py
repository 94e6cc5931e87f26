"""Loops wherever they are, and ends that do not come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.evaluation.degeneration import NGRAM, ends_in_loop, looping, repeating, unfinished

PHRASE = list(range(100, 100 + NGRAM))
BETWEEN = [1, 2, 3]


@pytest.mark.parametrize(
    ("tokens", "loops"),
    [
        ([7] * 12, True),
        ([7] * 11, False),
        ([1, 2, 3, *[5, 6] * 6], True),
        ([*[5, 6] * 6, 1], False),
        ([1, 2, 3, 4, 5] * 3, True),
        ([1, 2, 3, 4, 5] * 2, False),
        (list(range(16)) * 3, True),
        (list(range(17)) * 3, False),
        (list(range(40)), False),
        ([], False),
    ],
)
def test_ends_in_a_loop(tokens: list[int], loops: bool) -> None:
    assert ends_in_loop(tokens) == loops


@pytest.mark.parametrize(
    ("tokens", "repeats"),
    [
        ([*PHRASE, *BETWEEN, *PHRASE, 7, *PHRASE, 8, 9], True),
        ([*PHRASE, *BETWEEN, *PHRASE, 8, 9], False),
        ([*PHRASE[1:], 0, *PHRASE[1:], 4, *PHRASE[1:]], False),
        ([5] * (NGRAM + 2), True),
        ([5] * (NGRAM + 1), False),
        (PHRASE, False),
        ([], False),
    ],
)
def test_sixteen_tokens_three_times(tokens: list[int], repeats: bool) -> None:
    assert repeating(tokens) == repeats


def test_a_loop_is_seen_by_either() -> None:
    in_the_middle = [*PHRASE, 1, *PHRASE, 2, *PHRASE, 3, 4]
    short = [1, 2, 3, *[5, 6] * 6]
    assert looping(in_the_middle) and not ends_in_loop(in_the_middle)
    assert looping(short) and not repeating(short)


@given(st.lists(st.integers(0, 2), max_size=60))
def test_repeating_is_what_counting_says(tokens: list[int]) -> None:
    starts = range(len(tokens) - NGRAM + 1)
    counts = [sum(tokens[i : i + NGRAM] == tokens[j : j + NGRAM] for j in starts) for i in starts]
    assert repeating(tokens) == (max(counts, default=0) >= 3)


@pytest.mark.parametrize("finish", ["eos", "stop", "forced"])
def test_a_reply_that_ended_is_finished(finish: str) -> None:
    assert not unfinished(finish, ends=True)


@pytest.mark.parametrize("finish", ["max_tokens", "context", "nan"])
def test_a_reply_that_was_cut_off_is_unfinished_where_an_end_was_expected(finish: str) -> None:
    assert unfinished(finish, ends=True) and not unfinished(finish, ends=False)
