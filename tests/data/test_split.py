"""Parts are disjoint, complete, and where a document goes is its own affair."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from offramp.data.document import Document
from offramp.data.split import split
from offramp.errors import DataError, UsageError

SHARES = {"tune": 0.2, "calibrate": 0.6, "test": 0.2}
TEXTS = st.lists(st.text(min_size=1, max_size=4), min_size=12, max_size=60)
SEEDS = st.integers(0, 5)


def documents(texts: list[str]) -> list[Document]:
    return [Document(str(number), text, "here") for number, text in enumerate(texts)]


def where(parts: dict[str, list[Document]]) -> dict[str, str]:
    """The part of each text. Fails where copies are in two."""
    found: dict[str, str] = {}
    for name, part in parts.items():
        for document in part:
            assert found.setdefault(document.text, name) == name
    return found


def parted(texts: list[str], seed: int) -> dict[str, list[Document]]:
    """Draws that leave a part empty are passed over: another test is about them."""
    try:
        return split(documents(texts), SHARES, seed)
    except DataError:
        assume(False)
        raise


@given(TEXTS, SEEDS)
def test_parts_are_disjoint_and_complete(texts: list[str], seed: int) -> None:
    parts = parted(texts, seed)
    assert list(parts) == list(SHARES)
    ids = [document.id for part in parts.values() for document in part]
    assert sorted(ids, key=int) == [str(number) for number in range(len(texts))]
    assert all(part == sorted(part, key=lambda document: int(document.id)) for part in parts.values())


@given(TEXTS, TEXTS, SEEDS, st.randoms())
def test_other_documents_and_another_order_move_nothing(
    texts: list[str], more: list[str], seed: int, random: Random
) -> None:
    before = where(parted(texts, seed))
    mixed = texts + more
    random.shuffle(mixed)
    after = where(split(documents(mixed), SHARES, seed))
    assert {text: after[text] for text in texts} == before


def test_shares_are_met_on_average_and_seeds_differ() -> None:
    shares = {"tune": 0.1, "calibrate": 0.6, "test": 0.3}
    many = documents([f"text {n}" for n in range(20_000)])
    parts = split(many, shares, 3)
    for name, share in shares.items():
        assert abs(len(parts[name]) / len(many) - share) < 4 * (share * (1 - share) / len(many)) ** 0.5
    before, after = where(parts), where(split(many, shares, 4))
    assert before == where(split(many, shares, 3))
    moved = sum(after[text] != part for text, part in before.items())
    assert abs(moved / len(many) - (1 - 0.1**2 - 0.6**2 - 0.3**2)) < 0.02  # as independent draws would


def test_a_split_stays_what_it_was() -> None:
    """A calibration of last year must find its documents again."""
    parts = split(documents(list("abcdefgh")), SHARES, 0)
    assert {name: "".join(document.text for document in part) for name, part in parts.items()} == GOLDEN


GOLDEN = {"tune": "ad", "calibrate": "befgh", "test": "c"}


def test_a_part_without_documents_is_refused_with_the_number_it_takes() -> None:
    with pytest.raises(DataError) as caught:
        split(documents(["a", "a", "b"]), SHARES)
    said = str(caught.value)
    assert said.startswith("3 documents (2 different texts) leave") and "at least 26 different texts" in said
    empty = 0
    for seed in range(400):
        try:
            split(documents([f"{seed} {n}" for n in range(26)]), SHARES, seed)
        except DataError:
            empty += 1
    assert empty <= 10  # 1 in 100 asked for: 4 expected
    with pytest.raises(DataError, match="0 documents .* leave all empty"):
        split([], {"all": 1.0})


@pytest.mark.parametrize(
    "shares", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": 1.0, "b": 0.0}, {"a": float("nan"), "b": 1}]
)
def test_shares_are_parts_of_a_whole(shares: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="shares are above 0 and add up to 1"):
        split(documents(["a"]), shares)
