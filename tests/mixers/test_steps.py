"""In which order recurrent mixers take the tokens of a call: the bits depend neither on it nor on the groups."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import assert_same, hidden, make, poisoned_state, push_rows

from offramp.mixers import _steps
from offramp.mixers._steps import in_steps


@given(n=st.lists(st.integers(1, 16), min_size=1, max_size=9), together=st.integers(1, 10))
def test_every_token_once_and_after_its_row_s_earlier_ones(n: list[int], together: int) -> None:
    steps = in_steps(n, _steps.CACHED // together)
    assert sorted(steps.packed_L) == list(range(sum(n))) and sorted(steps.rows) == list(range(len(n)))
    assert [sum(n[:row]) + t for row, t in steps.token_L] == steps.packed_L
    tokens = iter(steps.token_L)
    for group in steps.groups:
        members = steps.rows[group.first : group.first + group.sizes[0]]
        assert len(members) <= together
        for t, size in enumerate(group.sizes):
            assert [next(tokens) for _ in range(size)] == [(row, t) for row in members[:size]]
    assert next(tokens, None) is None


@given(n=st.lists(st.integers(1, 9), min_size=1, max_size=5), padding=st.integers(0, 3))
def test_packing_undoes_the_order(n: list[int], padding: int) -> None:
    x_MD, steps = torch.arange(sum(n) + padding)[:, None], in_steps(n, 1)
    lined_up = steps.line_up(x_MD)
    assert lined_up[:, 0].tolist() == [*steps.packed_L, *range(sum(n), sum(n) + padding)]
    assert torch.equal(steps.pack(lined_up), x_MD)


@pytest.mark.parametrize("name", ["mamba", "mamba-odd-sizes", "mamba2", "mamba2-eight-groups"])
def test_the_size_of_groups_changes_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows stepped where they lie, in groups, and all at once; one, two and three tokens a row, dropped in part."""
    results = []
    with torch.inference_mode():
        mixer = make(name, 40, torch.float32)
        size = mixer.init_state(1, 1).ssm[0, 0].numel()
        for together in (1, 2, 3, 32):
            monkeypatch.setattr(_steps, "CACHED", together * size)
            state = poisoned_state(mixer, 7)
            outputs = []
            for number in range(4):
                n = {slot: 1 + (slot + number) % 3 for slot in (0, 1, 2, 4, 6)}
                chunks = {slot: hidden(count, 40, torch.float32, seed=slot) for slot, count in n.items()}
                outputs += push_rows(mixer, state, chunks).values()
                mixer.commit(state, sorted(n), [max(1, count - number % 2) for count in n.values()])
            results.append((torch.cat(outputs), [mixer.snapshot(state, slot) for slot in (0, 1, 2, 4, 6)]))
    for outputs, snapshots in results[1:]:
        assert torch.equal(outputs, results[0][0])
        for ours, theirs in zip(snapshots, results[0][1], strict=True):
            assert_same(ours, theirs)
