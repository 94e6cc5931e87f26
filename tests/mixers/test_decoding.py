"""Invariants 2 and 6 on every mixer: whole == step by step == any chunks, bit for bit in the exact tier."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import SAMPLES, SLOT, assert_same, hidden, make, poisoned_state, push, walk

from offramp.mixers.attention import Attention

DTYPES = [torch.float32, torch.float64]
CHUNKS = st.lists(st.integers(1, 16), min_size=1, max_size=6)


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=8, deadline=None)
@given(cells=st.lists(st.integers(1, 20), max_size=2), chunks=CHUNKS, bucket=st.sampled_from([0, 16]))
def test_whole_equals_prompt_cells_and_chunks(
    name: str, cells: list[int], chunks: list[int], bucket: int
) -> None:
    with torch.no_grad():
        mixer = make(name, 40, torch.float64)
        x = hidden(sum(cells) + sum(chunks), 40, torch.float64)
        state, outputs, done = poisoned_state(mixer), [], 0
        for size in cells:
            outputs.append(mixer.prefill(x[None, done : done + size], state, [SLOT])[0])
            done += size
        outputs.append(walk(mixer, state, x[done:], chunks, bucket=bucket))
        torch.testing.assert_close(torch.cat(outputs), mixer(x[None])[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [144, 160, 176])
@pytest.mark.parametrize("name", SAMPLES)
def test_one_by_one_equals_chunks_bit_for_bit(name: str, width: int, dtype: torch.dtype) -> None:
    with torch.inference_mode():
        mixer, x = make(name, width, dtype), hidden(50, width, dtype)
        for cell in (0, 9):
            results = []
            for chunks, filler in (([1] * 36, 0.0), ([16, 16, 4], float("nan")), ([7, 1, 12, 2, 14], -3.7)):
                state = poisoned_state(mixer)
                if cell:
                    mixer.prefill(x[None, :cell], state, [SLOT])
                results.append(
                    (walk(mixer, state, x[cell:], chunks, filler=filler), mixer.snapshot(state, SLOT))
                )
            for outputs, snapshot in results[1:]:
                assert torch.equal(outputs, results[0][0])
                assert_same(snapshot, results[0][1])


@pytest.mark.parametrize("name", SAMPLES)
def test_provisional_chunks_continue_each_other(name: str) -> None:
    """Several passes before one commit are the same as a commit after each."""
    with torch.inference_mode():
        mixer, x = make(name, 160, torch.float32), hidden(16, 160, torch.float32)
        ours, theirs = poisoned_state(mixer), poisoned_state(mixer)
        outputs = torch.cat([push(mixer, ours, part) for part in x.split([3, 1, 7, 5])])
        mixer.commit(ours, [SLOT], [16])
        assert torch.equal(outputs, walk(mixer, theirs, x, [16]))
        assert_same(mixer.snapshot(ours, SLOT), mixer.snapshot(theirs, SLOT))


@pytest.mark.parametrize("name", SAMPLES)
def test_advance_writes_what_forward_writes(name: str) -> None:
    with torch.inference_mode():
        mixer, x = make(name, 40, torch.float64), hidden(20, 40, torch.float64)
        ours, theirs = poisoned_state(mixer), poisoned_state(mixer)
        walk(mixer, theirs, x, [9, 11])
        mixer.advance(x[None, :9], ours, [SLOT], [9])
        mixer.commit(ours, [SLOT], [9])
        mixer.advance(torch.cat((x[9:], x[:3] * float("nan")))[None], ours, [SLOT], [11])
        mixer.commit(ours, [SLOT], [11])
        saved, expected = mixer.snapshot(ours, SLOT), mixer.snapshot(theirs, SLOT)
        for key, value in saved.items():
            torch.testing.assert_close(value, expected[key], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLES)
def test_skipped_tokens_leave_only_a_gap(name: str) -> None:
    """A skip changes the position and nothing else; decoding goes on from there."""
    with torch.inference_mode():
        mixer, x = make(name, 40, torch.float64), hidden(12, 40, torch.float64)
        state = poisoned_state(mixer)
        walk(mixer, state, x[:6], [6])
        before = mixer.snapshot(state, SLOT)
        state.skip([SLOT], [3])
        after = mixer.snapshot(state, SLOT)
        assert int(after.pop("position")) == int(before.pop("position")) + 3
        assert_same(before, after)
        chunked = walk(mixer, state, x[6:], [4, 2])
        mixer.reset(state, SLOT)
        walk(mixer, state, x[:6], [1] * 6)
        state.skip([SLOT], [3])
        assert torch.equal(walk(mixer, state, x[6:], [1] * 6), chunked)


def test_positions_need_pairs_of_dimensions() -> None:
    with pytest.raises(AssertionError, match="in pairs"):
        Attention(21, heads=3)
    Attention(21, heads=3, rope=None)
