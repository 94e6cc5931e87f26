"""Invariants 2 and 6 on every mixer: whole == step by step == any chunks, bit for bit in the exact tier."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import MAX_LEN, SAMPLES, SLOT, assert_same, hidden, make, poisoned_state, push, push_rows, walk
from torch import Tensor

from offramp.mixers.attention import Attention
from offramp.mixers.base import CELL, RUN_LIMIT

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


@pytest.mark.parametrize("last", [0, 1, 5, 9])
@pytest.mark.parametrize("name", SAMPLES)
def test_of_a_cell_only_the_last_outputs_may_be_wanted(name: str, last: int) -> None:
    """The first cell of a sequence, and one behind it; what is remembered does not depend on what is wanted."""
    with torch.inference_mode():
        mixer, x = make(name, 40, torch.float64), hidden(29, 40, torch.float64)
        whole, some = poisoned_state(mixer), poisoned_state(mixer)
        for cell in (x[None, :20], x[None, 20:]):
            outputs = mixer.prefill(cell, whole, [SLOT])[:, cell.shape[1] - last :]
            wanted = mixer.prefill_last(cell, some, [SLOT], last)
            torch.testing.assert_close(wanted, outputs, rtol=1e-10, atol=1e-10)
            kept, expected = mixer.snapshot(some, SLOT), mixer.snapshot(whole, SLOT)
            torch.testing.assert_close(kept, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_cell_within_a_prompt_and_at_its_end_is_remembered_alike_bit_for_bit(
    name: str, dtype: torch.dtype
) -> None:
    """Of the first no output is wanted, of the second one: either may serve the other's prompt."""
    with torch.inference_mode():
        mixer, x = make(name, 160, dtype), hidden(70, 160, dtype)
        within, end = poisoned_state(mixer), poisoned_state(mixer)
        mixer.prefill_last(x[None], within, [SLOT], 0)
        mixer.prefill_last(x[None], end, [SLOT], 1)
        assert_same(mixer.snapshot(within, SLOT), mixer.snapshot(end, SLOT))


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
        mixer.advance(x[:9], ours, [SLOT], [9])
        mixer.commit(ours, [SLOT], [9])
        mixer.advance(torch.cat((x[9:], x[:3] * float("nan"))), ours, [SLOT], [11])
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


SLOTS = 12
# A call of several rows: slot -> how many tokens, at most RUN_LIMIT together.
CALL = st.dictionaries(st.integers(0, SLOTS - 1), st.integers(1, 8), min_size=1, max_size=8).map(
    lambda wanted: {
        slot: n
        for i, (slot, n) in enumerate(wanted.items())
        if sum(list(wanted.values())[: i + 1]) <= RUN_LIMIT
    }
)
TURN = st.tuples(CALL, st.integers(0, RUN_LIMIT), st.sampled_from([0.0, float("nan"), -3.7]))


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=15, deadline=None)
@given(
    turns=st.lists(TURN, min_size=1, max_size=6),
    cells=st.dictionaries(st.integers(0, SLOTS - 1), st.integers(1, CELL), max_size=4),
    clean=st.booleans(),
)
def test_a_row_in_company_is_bit_for_bit_as_alone(
    name: str, turns: list[tuple[dict[int, int], int, float]], cells: dict[int, int], clean: bool
) -> None:
    """Any rows, slots, chunks, rejected drafts and padding; each row's tokens one by one in another slot."""
    with torch.inference_mode():
        mixer = make(name, 144, torch.float32)
        together = mixer.init_state(SLOTS, MAX_LEN) if clean else poisoned_state(mixer, SLOTS)
        kept: dict[int, list[tuple[Tensor, Tensor]]] = {slot: [] for slot in range(SLOTS)}
        for slot, count in cells.items():
            mixer.prefill(hidden(count, 144, torch.float32, seed=slot)[None], together, [slot])
        for number, (call, keep, filler) in enumerate(turns):
            chunks = {
                slot: hidden(n, 144, torch.float32, seed=100 * number + slot) for slot, n in call.items()
            }
            outputs = push_rows(mixer, together, chunks, filler=filler)
            for slot, n in sorted(call.items()):
                stays = min(keep, n)
                kept[slot].append((chunks[slot][:stays], outputs[slot][:stays]))
            rows = sorted(call)
            mixer.rollback(together, rows, keep)
            mixer.commit(together, rows, [min(keep, call[slot]) for slot in rows])
        for slot, parts in kept.items():
            alone = poisoned_state(mixer)
            if slot in cells:
                mixer.prefill(hidden(cells[slot], 144, torch.float32, seed=slot)[None], alone, [SLOT])
            for x_TD, outputs_TD in parts:
                for x_D, output_D in zip(x_TD, outputs_TD, strict=True):
                    assert torch.equal(walk(mixer, alone, x_D[None], [1])[0], output_D)
            assert_same(mixer.snapshot(together, slot), mixer.snapshot(alone, SLOT))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_snapshot_in_pieces_is_the_whole(name: str) -> None:
    """Pieces restored one after another, into a slot that held something else, continue bit for bit."""
    with torch.inference_mode():
        mixer, x = make(name, 40, torch.float32), hidden(340, 40, torch.float32)
        ours, theirs = poisoned_state(mixer), poisoned_state(mixer)
        pieces, since = [], 0
        for count in (150, 160, 9):
            mixer.prefill(x[None, since : since + count], theirs, [SLOT])
            pieces.append(mixer.snapshot(theirs, SLOT, since))
            since += count
        mixer.prefill(x[None, 90:], ours, [SLOT])
        push(mixer, ours, x[:5])
        for piece in pieces:
            mixer.restore(ours, SLOT, piece)
        assert_same(mixer.snapshot(ours, SLOT), mixer.snapshot(theirs, SLOT))
        assert torch.equal(walk(mixer, ours, x[319:335], [16]), walk(mixer, theirs, x[319:335], [4, 12]))


def test_positions_need_pairs_of_dimensions() -> None:
    with pytest.raises(AssertionError, match="in pairs"):
        Attention(21, heads=3)
    Attention(21, heads=3, rope=None)
