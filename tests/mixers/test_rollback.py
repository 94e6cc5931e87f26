"""Invariant 8: after rollback and commit, a slot is as one that never saw the dropped tokens, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import MAX_LEN, SAMPLES, SLOT, assert_same, hidden, make, poisoned_state, push, walk

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


@pytest.mark.parametrize("name", SAMPLES)
def test_rows_of_a_call_do_not_meet(name: str) -> None:
    """Two slots in one call, with other lengths, are each as they are alone (a tolerance: shapes differ)."""
    with torch.inference_mode():
        mixer, x = make(name, WIDTH, torch.float64), hidden(16, WIDTH, torch.float64)
        both, alone = poisoned_state(mixer), poisoned_state(mixer)
        mixer.reset(both, 2)
        together = mixer(torch.stack((x.flip(0), x)), both, [2, SLOT], [3, 7])
        torch.testing.assert_close(together[1, :7], push(mixer, alone, x[:7]), rtol=1e-12, atol=1e-12)
        mixer.commit(both, [2, SLOT], [3, 2])
        mixer.commit(alone, [SLOT], [2])
        assert both.position == [0, 2, 3]
        torch.testing.assert_close(
            push(mixer, both, x[2:9]), push(mixer, alone, x[2:9]), rtol=1e-12, atol=1e-12
        )
