"""How many drafts: the model of a cycle against every outcome counted out, and what it must choose where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.engine.controller import MARGIN, PRIOR, Fixed, Measured, Odds, Promise, Prospect, promises
from offramp.engine.timings import FREE, Curve, Timings

VERIFY = Prospect(leave=0.8, accept=0.8, judged=True, waits=True, room=15)
DEFER = Prospect(leave=0.8, accept=0.0, judged=False, waits=True, room=15)
SKIP = replace(DEFER, waits=False)


def line(base: float, slope: float) -> Curve:
    """base + slope * n seconds for n tokens."""
    return Curve(((1, base + slope), (2, base + 2 * slope)))


def memory_bound(w: float) -> Timings:
    """Passes cost their weights, of which the share w is shallow."""
    return Timings(line(w, 0), line(1 - w, 0))


def compute_bound(w: float) -> Timings:
    return Timings(line(0, w), line(0, 1 - w))


# ---- every outcome of a cycle, counted out


def outcomes(row: Prospect, d: int) -> Iterator[tuple[float, int, int]]:
    """(chance, tokens that leave, tokens said) of all that may become of one row in d + 1 rounds."""
    can_leave = min(row.room, d if row.judged else d + 1)
    for left in range(can_leave + 1):
        chance = row.leave**left * (1 - row.leave if left < can_leave else 1)
        if not row.judged:
            yield chance, left, left + (left <= d)
            continue
        for right in range(left + 1):
            yield chance * row.accept**right * (1 - row.accept if right < left else 1), left, right + 1


def counted(rows: list[Prospect], timings: Timings, d: int) -> tuple[float, float]:
    """Expected tokens and seconds of a cycle over all outcomes of all rows."""
    tokens = seconds = 0.0
    for outcome in product(*(list(outcomes(row, d)) for row in rows)):
        chance = prod(share for share, _, _ in outcome)
        left = [count for _, count, _ in outcome]
        tokens += chance * sum(said for _, _, said in outcome)
        seconds += chance * cost(rows, timings, d, left)
    return tokens, seconds


def cost(rows: list[Prospect], timings: Timings, d: int, left: list[int]) -> float:
    """Seconds of one cycle in which so many tokens of each row left; waiting tokens are paid when they are said."""
    seconds, tokens = 0.0, 0
    for j in range(d + 1):
        seconds += timings.shallow.seconds(sum(count >= j for count in left))
        seconds += timings.draft.seconds(sum(count > j for count in left))
    for row, count in zip(rows, left, strict=True):
        tokens += min(count, d) + 1 if row.waits else count <= d
    [(_, one), (_, two)] = timings.deep.points
    comes = any(count <= d for count in left)
    return seconds + comes * (2 * one - two) + tokens * (two - one)


chances = st.floats(0, 1)
waiting = st.one_of(
    st.builds(Prospect, chances, chances, st.just(True), st.just(True), st.integers(0, 4)),
    st.builds(Prospect, chances, chances, st.just(False), st.just(True), st.integers(0, 4)),
)
settled = st.builds(Prospect, chances, chances, st.just(False), st.just(False), st.integers(0, 4))
prospects = st.one_of(waiting, settled)
lines = st.builds(line, st.floats(0.01, 1), st.floats(0, 1))


@given(
    st.lists(prospects, min_size=1, max_size=3),
    st.builds(Timings, lines, lines, st.one_of(st.just(FREE), lines)),
)
def test_a_promise_is_the_mean_over_all_outcomes(rows: list[Prospect], timings: Timings) -> None:
    for d, promise in enumerate(promises(rows, timings, 3)):
        tokens, seconds = counted(rows, timings, d)
        assert promise == Promise(d, pytest.approx(tokens), pytest.approx(seconds))


@given(st.lists(prospects, min_size=1, max_size=3), st.builds(Timings, lines, lines))
def test_it_picks_the_best_by_some_margin(rows: list[Prospect], timings: Timings) -> None:
    rates = [tokens / seconds for tokens, seconds in (counted(rows, timings, d) for d in range(4))]
    d = Measured(timings, 3).drafts(rows)
    if d == 0:
        assert max(rates) <= MARGIN * rates[0] * (1 + 1e-9)
    else:
        assert rates[d] == pytest.approx(max(rates)) and rates[d] > MARGIN * rates[0] * (1 - 1e-9)


# ---- what it must choose


@given(st.lists(waiting, min_size=1, max_size=40), st.floats(0.05, 0.95))
def test_nothing_is_drafted_where_every_token_costs(rows: list[Prospect], w: float) -> None:
    """Every token runs everywhere in the end, so no order saves anything."""
    assert Measured(compute_bound(w), 8).drafts(rows) == 0


@given(settled, st.integers(1, 40), st.floats(0.05, 0.95))
def test_tokens_that_skip_blocks_skip_them_in_any_order(row: Prospect, rows: int, w: float) -> None:
    row = replace(row, room=15)
    assert Measured(compute_bound(w), 8).drafts([row] * rows) == 0


@pytest.mark.parametrize("w", [0.125, 0.25, 0.5])
def test_more_drafts_the_better_they_are(w: float) -> None:
    accepts = (0.0, 0.3, 0.6, 0.8, 0.9, 0.97)
    chosen = [Measured(memory_bound(w), 15).drafts([replace(VERIFY, leave=1, accept=p)]) for p in accepts]
    assert chosen == sorted(chosen) and chosen[0] == 0 and chosen[-1] > chosen[2]


def test_more_drafts_the_dearer_the_deep_pass() -> None:
    chosen = [Measured(memory_bound(w), 15).drafts([VERIFY] * 4) for w in (0.9, 0.5, 0.25, 0.125, 0.02)]
    assert chosen == sorted(chosen) and chosen[0] == 0 and len(set(chosen)) > 3


def test_fewer_drafts_above_the_ridge() -> None:
    """Up to 16 tokens a pass costs its weights, then every token costs: many rows leave no room for drafts."""
    shallow, deep = (Curve(((1, share), (16, share), (32, 2 * share))) for share in (0.25, 0.75))
    chosen = [Measured(Timings(shallow, deep), 15).drafts([VERIFY] * count) for count in (1, 2, 4, 8, 16, 32)]
    assert chosen == sorted(chosen, reverse=True) and chosen[0] > chosen[2] > chosen[-1] == 0


def test_a_dear_head_forbids_drafts() -> None:
    timings = memory_bound(0.25)
    dear = replace(timings, draft=line(1.0, 0))
    assert Measured(timings, 8).drafts([VERIFY]) > Measured(dear, 8).drafts([VERIFY]) == 0


def test_lossy_rows_gather_before_the_deep_pass() -> None:
    """Alone it makes no difference when it comes; together rows share it."""
    timings = memory_bound(0.25)
    assert Measured(timings, 8).drafts([SKIP]) == 0
    assert Measured(timings, 8).drafts([SKIP] * 8) > 0


@pytest.mark.parametrize("row", [VERIFY, DEFER, SKIP])
def test_no_more_rounds_than_rows_have_room(row: Prospect) -> None:
    rows = [replace(row, leave=1.0, accept=1.0, room=3)] * 4
    assert Measured(memory_bound(0.1), 8).drafts(rows) <= 3


# scale.md, the bound on fixed slots in any order, memory-bound: rows w, columns q
BOUND = {
    0.125: (1.25, 1.40, 1.58, 1.85, 2.27, 3.07),
    0.25: (1.12, 1.20, 1.31, 1.46, 1.69, 2.09),
    0.375: (1.02, 1.09, 1.16, 1.25, 1.39, 1.64),
    0.5: (1.00, 1.00, 1.07, 1.13, 1.22, 1.38),
    0.75: (1.00, 1.00, 1.00, 1.00, 1.03, 1.09),
}


@pytest.mark.parametrize("w", BOUND)
@pytest.mark.parametrize("rows", [1, 7])
def test_it_reaches_the_bound_of_an_ideal_machine(w: float, rows: int) -> None:
    """G(q, w) = max over j of [(1 - q^j) / (1 - q)] / (j w + 1 - w): here j = d + 1 rounds, and all tokens leave."""
    for q, bound in zip((0.4, 0.5, 0.6, 0.7, 0.8, 0.9), BOUND[w], strict=True):
        every = promises([replace(VERIFY, leave=1, accept=q)] * rows, memory_bound(w), 15)
        assert max(promise.rate for promise in every) / every[0].rate == pytest.approx(bound, abs=0.006)


def test_nobody_to_ask_and_nothing_to_choose() -> None:
    assert Measured(memory_bound(0.1), 8).drafts([]) == 0
    assert Measured(memory_bound(0.1), 0).drafts([VERIFY]) == 0
    assert [Fixed(d).drafts([VERIFY]) for d in (0, 3)] == [0, 3]


def test_a_clock_that_saw_nothing_is_no_division_by_zero() -> None:
    assert Measured(Timings(FREE, FREE), 4).drafts([VERIFY]) in range(5)


# ---- the averages


def test_averages_follow_what_is_seen() -> None:
    odds = Odds()
    for i in range(400):
        odds.asked(i % 4 == 0)
        odds.judged(drafts=3, accepted=1)
    assert odds.leave == pytest.approx(0.25, abs=0.1)
    assert odds.accept == pytest.approx(0.5, abs=0.06), (
        "one success and one failure each time; the third is unknown"
    )


def test_what_comes_behind_a_rejected_draft_says_nothing() -> None:
    short, long = Odds(), Odds()
    short.judged(3, 2)
    long.judged(9, 2)
    assert short == long
    long.judged(2, 2)
    assert long.accept > short.accept


def test_a_new_row_begins_where_the_others_are() -> None:
    common = Odds()
    first, second = common.newcomer(), common.newcomer()
    for _ in range(30):
        first.asked(True)
        first.judged(1, 0)
    third = common.newcomer()
    assert (third.leave, third.accept) == (first.leave, first.accept) == (common.leave, common.accept)
    assert third.leave > 0.9 and third.accept < 0.1
    assert (second.leave, second.accept) == (0.5, PRIOR), "rows see their own"


def test_drafts_are_tried_again_from_time_to_time() -> None:
    """All drafts are wrong: they are given up soon, tried again now and then, and never often."""
    controller, odds = Measured(memory_bound(0.25), 8), Odds(leave=1.0)
    tried = []
    for _ in range(2000):
        d = controller.drafts([replace(VERIFY, leave=odds.leave, accept=odds.accept)])
        odds.judged(d, 0)
        tried.append(d > 0)
    assert tried[0] and not all(tried[:20])
    assert 10 < sum(tried[1000:]) < 60


def test_drafts_that_are_right_again_are_found_out() -> None:
    controller, odds = Measured(memory_bound(0.25), 8), Odds(leave=1.0, accept=0.0)
    d = 0
    for _ in range(300):
        d = controller.drafts([replace(VERIFY, leave=odds.leave, accept=odds.accept)])
        odds.judged(d, d)
    assert d == 8
