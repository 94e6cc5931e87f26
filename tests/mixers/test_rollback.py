"""Invariant 8: after rollback and commit, a slot is as one that never saw the dropped tokens, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import MAX_LEN, SAMPLES, SLOT, assert_same, hidden, make, poisoned_state, push, push_rows, walk

from offramp.mixers.base import Mixer, State

WIDTH, DTYPE = 40, torch.float32
# A round pushes chunks (16 tokens together at most), rolls back to `keep`, and commits `final` of those.
ROUND = st.tuples(st.lists(st.integers(1, 8), min_size=1, max_size=2), st.integers(0, 16), st.integers(0, 16))


def play(mixer: Mixer, state: State, rounds: list[tuple[list[int], int, int]]) -> torch.Tensor:
    """Push, roll back, commit, new random tokens every time; the hidden states of those that stayed."""
    stayed = [torch.empty(0, WIDTH, dtype=DTYPE)]
    for number, (chunks, keep, final) in enumerate(rounds):
        x = hidden(sum(chunks), WIDTH, DTYPE, seed=number)
        for part in x.split(chunks):
            push(mixer, state, part)
        mixer.rollback(state, [SLOT], keep)
        count = min(final, keep, len(x))
        mixer.commit(state, [SLOT], [count])
        stayed.append(x[:count])
    return torch.cat(stayed)


def same_future(mixer: Mixer, ours: State, theirs: State) -> None:
    assert_same(mixer.snapshot(ours, SLOT), mixer.snapshot(theirs, SLOT))
    x = hidden(9, WIDTH, DTYPE, seed=99)
    assert torch.equal(walk(mixer, ours, x, [5, 4]), walk(mixer, theirs, x, [9]))


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=10, deadline=None)
@given(rounds=st.lists(ROUND, min_size=1, max_size=4))
def test_dropped_tokens_never_were(name: str, rounds: list[tuple[list[int], int, int]]) -> None:
    with torch.inference_mode():
        mixer = make(name, WIDTH, DTYPE)
        ours, twin = poisoned_state(mixer), poisoned_state(mixer)
        stayed = play(mixer, ours, rounds)
        walk(mixer, twin, stayed, [1] * len(stayed)) if len(stayed) else None
        same_future(mixer, ours, twin)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("keep", [0, 1, 3, 5])
def test_a_pass_continues_after_a_partial_rollback(name: str, keep: int) -> None:
    with torch.inference_mode():
        mixer, x = make(name, WIDTH, DTYPE), hidden(20, WIDTH, DTYPE)
        ours, twin = poisoned_state(mixer), poisoned_state(mixer)
        for state in (ours, twin):
            walk(mixer, state, x[:4], [4])
        push(mixer, ours, x[4:9] * 2)
        mixer.rollback(ours, [SLOT])
        push(mixer, ours, x[4:9])
        mixer.rollback(ours, [SLOT], keep)
        if keep:
            push(mixer, twin, x[4 : 4 + keep])
        assert torch.equal(push(mixer, ours, x[10:14]), push(mixer, twin, x[10:14]))
        for state in (ours, twin):
            mixer.commit(state, [SLOT], [keep + 4])
        same_future(mixer, ours, twin)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_reused_slot_forgets_a_nan_sequence(name: str) -> None:
    with torch.inference_mode():
        mixer, x = make(name, WIDTH, DTYPE), hidden(30, WIDTH, DTYPE)
        ours, twin = poisoned_state(mixer), mixer.init_state(3, MAX_LEN)
        walk(mixer, ours, x * float("nan"), [16, 10])
        push(mixer, ours, x[:4] * float("nan"))
        mixer.reset(ours, SLOT)
        assert torch.equal(walk(mixer, ours, x, [16, 14]), walk(mixer, twin, x, [1] * 30))
        same_future(mixer, ours, twin)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_nan_token_does_not_reach_those_before_it(name: str) -> None:
    with torch.inference_mode():
        mixer, x = make(name, WIDTH, DTYPE), hidden(10, WIDTH, DTYPE)
        ours, twin = poisoned_state(mixer), poisoned_state(mixer)
        sick = x.clone()
        sick[6:] = float("nan")
        outputs = push(mixer, ours, sick)[:6]
        assert torch.equal(outputs, push(mixer, twin, x)[:6])
        for state in (ours, twin):
            mixer.commit(state, [SLOT], [6])
        same_future(mixer, ours, twin)


@pytest.mark.parametrize("name", SAMPLES)
def test_snapshot_and_restore(name: str) -> None:
    with torch.inference_mode():
        mixer, x = make(name, WIDTH, DTYPE), hidden(30, WIDTH, DTYPE)
        ours, twin = poisoned_state(mixer), poisoned_state(mixer)
        walk(mixer, twin, x[:21], [16, 5])
        saved = mixer.snapshot(twin, SLOT)
        walk(mixer, ours, x[5:], [16, 3])
        push(mixer, ours, x[:2])
        mixer.restore(ours, SLOT, saved)
        walk(mixer, twin, x[21:], [9])  # a snapshot is a copy
        walk(mixer, ours, x[21:], [4, 5])
        same_future(mixer, ours, twin)


SLOTS = 6
# A round of several rows: slot -> how many tokens it pushes in each pass, and how many of them stay.
PASSES = st.lists(st.integers(0, 5), min_size=1, max_size=3)
COMPANY = st.dictionaries(
    st.integers(0, SLOTS - 1), st.tuples(PASSES, st.integers(0, 15)), min_size=2, max_size=3
)


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=15, deadline=None)
@given(rounds=st.lists(COMPANY, min_size=1, max_size=3), keep=st.integers(0, 15), sick=st.booleans())
def test_rows_in_company_keep_what_they_keep(
    name: str, rounds: list[dict[int, tuple[list[int], int]]], keep: int, sick: bool
) -> None:
    """Rows push together, drop together and commit together, each its own counts, and are as if each were alone.

    sick: what a row drops is NaN.
    """
    with torch.inference_mode():
        mixer = make(name, WIDTH, DTYPE)
        ours, stayed = poisoned_state(mixer, SLOTS), dict.fromkeys(range(SLOTS), torch.empty(0, WIDTH))
        for number, company in enumerate(rounds):
            tokens = {slot: hidden(15, WIDTH, DTYPE, seed=10 * number + slot) for slot in company}
            pushed, final = dict.fromkeys(company, 0), {}
            for slot, (passes, wanted) in company.items():
                final[slot] = min(sum(passes), wanted, keep)
                tokens[slot][final[slot] :] *= float("nan") if sick else 1.0
            for turn in range(3):
                now = {slot: passes[turn] for slot, (passes, _) in company.items() if turn < len(passes)}
                chunks = {slot: tokens[slot][pushed[slot] :][:n] for slot, n in now.items() if n}
                pushed |= {slot: pushed[slot] + len(x) for slot, x in chunks.items()}
                push_rows(mixer, ours, chunks) if chunks else None
            rows = sorted(company)
            mixer.rollback(ours, rows, keep)
            mixer.commit(ours, rows, [final[slot] for slot in rows])
            for slot in rows:
                stayed[slot] = torch.cat((stayed[slot], tokens[slot][: final[slot]]))
        for slot, x_TD in stayed.items():
            twin = poisoned_state(mixer)
            if len(x_TD):
                walk(mixer, twin, x_TD, [1] * len(x_TD))
            assert_same(mixer.snapshot(ours, slot), mixer.snapshot(twin, SLOT))
            assert all(bool(value.isfinite().all()) for value in mixer.snapshot(ours, slot).values())
