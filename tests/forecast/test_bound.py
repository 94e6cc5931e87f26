"""G(q, w): the published table, and what must hold of any bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.forecast.bound import Reads, gain_bound, gain_bound_alone, gain_bound_with_heads, said

QS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
TABLE = {
    0.125: (1.25, 1.40, 1.58, 1.85, 2.27, 3.07),
    0.25: (1.12, 1.20, 1.31, 1.46, 1.69, 2.09),
    0.375: (1.02, 1.09, 1.16, 1.25, 1.39, 1.64),
    0.5: (1.00, 1.00, 1.07, 1.13, 1.22, 1.38),
    0.75: (1.00, 1.00, 1.00, 1.00, 1.03, 1.09),
}
"""By w, for each of QS; docs/performance.md shows three of the rows."""

shares = st.floats(0.01, 0.99)


@pytest.mark.parametrize("w", TABLE)
def test_the_table(w: float) -> None:
    assert [round(gain_bound(q, w), 2) for q in QS] == list(TABLE[w])


def test_said() -> None:
    assert said(0.5, 3) == 1.75 and said(0.0, 5) == 1


@given(shares, shares)
def test_one_row_gains_no_less_than_many(q: float, w: float) -> None:
    """A row alone, with a gate that knows, is spared the deep weights whenever it leaves."""
    assert 1 <= gain_bound(q, w) <= gain_bound_alone(q, w) + 1e-9


@given(shares, shares, shares)
def test_more_agreement_is_no_worse(q: float, more: float, w: float) -> None:
    low, high = sorted((q, more))
    assert gain_bound(low, w) <= gain_bound(high, w) + 1e-9


@given(shares, shares)
def test_heads_that_weigh_nothing(q: float, w: float) -> None:
    assert gain_bound_with_heads(q, Reads(w, 1 - w)) == pytest.approx(gain_bound(q, w))


def test_heads_cost() -> None:
    free, head = Reads(1, 3), Reads(1, 3, head=1)
    assert gain_bound_with_heads(0.7, head) < gain_bound_with_heads(0.7, free)
    assert gain_bound_with_heads(0.0, Reads(1, 3, exit=1)) == 4 / 5, "exits cost where nothing leaves"
    by_hand = max(said(0.7, j) * 5 / (j * 2 + (j - 1) * 1 + 3) for j in range(1, 9))
    assert gain_bound_with_heads(0.7, Reads(1, 3, head=1, borrowed=1)) == pytest.approx(by_hand)


def test_a_short_list_of_drafts_costs_its_rows() -> None:
    """The deep pass reads the whole head all the same."""
    by_hand = max(said(0.7, j) * 6 / (j * 1 + (j - 1) * 0.25 + 3 + 2) for j in range(1, 16))
    assert gain_bound_with_heads(0.7, Reads(1, 3, head=2, drafts=0.25)) == pytest.approx(by_hand)
    assert gain_bound_with_heads(0.7, Reads(1, 3, head=2, drafts=2)) == pytest.approx(
        gain_bound_with_heads(0.7, Reads(1, 3, head=2))
    )
