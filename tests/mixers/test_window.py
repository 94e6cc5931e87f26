"""A windowed attention holds its window only, and is bit for bit the one that holds everything."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch
from samples import SLOT, assert_same, hidden, push
from torch import Tensor

from offramp.mixers import attention
from offramp.mixers._entries import AttentionState, capacity
from offramp.mixers.attention import Attention
from offramp.mixers.base import CELL, RUN_LIMIT
from offramp.ops.attention_cached import TILE, first_read

WIDTH, LENGTH = 24, 1200
Turn = tuple[str, int]


def make(window: int, dtype: torch.dtype = torch.float32) -> Attention:
    torch.manual_seed(window)
    return Attention(WIDTH, heads=2, kv_heads=1, head_dim=16, window=window).to(dtype)


def states(mixer: Attention, monkeypatch: pytest.MonkeyPatch) -> tuple[AttentionState, AttentionState]:
    """One that holds the window, one that holds everything."""
    short = mixer.init_state(3, LENGTH)
    monkeypatch.setattr(attention, "capacity", lambda max_len, window: capacity(max_len, None))
    whole = mixer.init_state(3, LENGTH)
    monkeypatch.undo()
    for state in (short, whole):
        for memory in (state.k, state.v):
            memory.fill_(float("nan"))
        state.reset(SLOT)
    return short, whole


def turns(seed: int, tokens: int, cells: int) -> Iterator[Turn]:
    """Whole prompt cells and a part of one, then chunks that are kept, dropped in part, skipped or copied."""
    rng = random.Random(seed)
    yield from [("cell", CELL)] * cells
    yield "cell", rng.randint(1, CELL)
    while tokens > 0:
        kind = rng.choices(["chunk", "drop", "skip", "repeat", "restore"], [12, 3, 1, 3, 0.5])[0]
        count = rng.randint(1, RUN_LIMIT)
        tokens -= count
        yield kind, count


def take(mixer: Attention, state: AttentionState, turn: Turn, x_TD: Tensor) -> Tensor:
    """One turn of one state; what came out of it."""
    kind, count = turn
    if kind == "cell":
        return mixer.prefill(x_TD[None], state, [SLOT])[0]
    out = torch.empty(0)
    if kind == "skip":
        state.skip([SLOT], [count])
    elif kind == "repeat":
        mixer.repeat_entry(state, [SLOT], [count - 1 or 1])
        mixer.commit(state, [SLOT], [count - 1 or 1])
    elif kind == "restore":
        mixer.restore(state, SLOT, mixer.snapshot(state, SLOT))
    else:
        out = push(mixer, state, x_TD)
        kept = count if kind == "chunk" else count // 2
        mixer.rollback(state, [SLOT], kept)
        mixer.commit(state, [SLOT], [kept])
    if kind == "repeat":  # the engine's rule: a token computed by every block follows at most 15 copies
        out = push(mixer, state, x_TD[:1])
        mixer.commit(state, [SLOT], [1])
    return out


@pytest.mark.parametrize("cells", [0, 2])
@pytest.mark.parametrize("window", [1, 5, 16, 33, 256])
@torch.inference_mode()
def test_a_window_equals_the_whole_length_bit_for_bit(
    window: int, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixer = make(window)
    short, whole = states(mixer, monkeypatch)
    assert short.pos.shape[1] <= window + CELL + RUN_LIMIT + 2 * TILE < whole.pos.shape[1]
    for number, turn in enumerate(turns(window, 950 - CELL * cells - CELL, cells)):
        x_TD = hidden(turn[1], WIDTH, torch.float32, seed=number)
        ours, theirs = (take(mixer, state, turn, x_TD) for state in (short, whole))
        assert torch.equal(ours, theirs) and ours.isfinite().all(), turn
        assert short.last_own(SLOT) == whole.last_own(SLOT)
    assert_same(mixer.snapshot(short, SLOT), mixer.snapshot(whole, SLOT))
    assert short.oldest[SLOT] > 0, "nothing was ever forgotten"
    mixer.reset(short, SLOT)
    mixer.reset(whole, SLOT)
    x_TD = hidden(9, WIDTH, torch.float32)
    assert torch.equal(push(mixer, short, x_TD), push(mixer, whole, x_TD))


@pytest.mark.parametrize("window", [1, 5, 16, 33, 256])
@torch.inference_mode()
def test_a_window_equals_whole_sequences(window: int) -> None:
    """Tokens in cells, chunks and one by one, long past the window, against the form without a state."""
    mixer, rng = make(window, torch.float64), random.Random(window)
    state, x_TD = poisoned_state_of(mixer), hidden(900, WIDTH, torch.float64)
    outputs, done = [mixer.prefill(x_TD[None, :CELL], state, [SLOT])[0]], CELL
    while done < len(x_TD):
        count = min(rng.choice([1, 2, 7, 16]), len(x_TD) - done)
        outputs.append(push(mixer, state, x_TD[done : done + count]))
        mixer.commit(state, [SLOT], [count])
        done += count
    torch.testing.assert_close(torch.cat(outputs), mixer(x_TD[None])[0], rtol=1e-10, atol=1e-10)


def poisoned_state_of(mixer: Attention) -> AttentionState:
    state = mixer.init_state(3, LENGTH)
    for memory in (state.k, state.v):
        memory.fill_(float("nan"))
    mixer.reset(state, SLOT)
    return state


@torch.inference_mode()
def test_chunks_equal_one_by_one_past_the_window() -> None:
    mixer, x_TD = make(33), hidden(700, WIDTH, torch.float32)
    results = []
    for sizes in ([1], [16], [7, 1, 12, 2, 14]):
        state, outputs, done = poisoned_state_of(mixer), [], 0
        while done < len(x_TD):
            size = min(sizes[len(outputs) % len(sizes)], len(x_TD) - done)
            outputs.append(push(mixer, state, x_TD[done : done + size]))
            mixer.commit(state, [SLOT], [size])
            done += size
        results.append((torch.cat(outputs), mixer.snapshot(state, SLOT)))
    for outputs, saved in results[1:]:
        assert torch.equal(outputs, results[0][0])
        assert_same(saved, results[0][1])


def test_the_cost_is_bounded_by_the_window() -> None:
    """Entries that a query reads, and entries that a slot holds, do not grow with the sequence."""
    for window in (1, 5, 16, 33, 256):
        read = [entry // TILE * TILE + TILE - first_read(entry, window) for entry in range(5000)]
        assert max(read) <= window + 2 * TILE - 2
        assert all(entry - first_read(entry, window) >= min(entry, window - 1) for entry in range(5000))
        held, positions = capacity(100_000, window)
        assert held <= window + CELL + RUN_LIMIT + 2 * TILE and positions > 100_000
        assert capacity(40, window)[0] <= capacity(40, None)[0]


@torch.inference_mode()
def test_a_repeated_entry_stands_as_if_it_had_been_computed_there() -> None:
    """Its key is turned once by the whole distance, over gaps and after other copies; the value is the same."""
    mixer, x_TD = make(256, torch.float64), hidden(6, WIDTH, torch.float64)
    state = poisoned_state_of(mixer)
    push(mixer, state, x_TD)
    mixer.commit(state, [SLOT], [6])
    mixer.repeat_entry(state, [SLOT], [1])
    mixer.commit(state, [SLOT], [1])
    state.skip([SLOT], [4])
    mixer.repeat_entry(state, [SLOT], [2])
    assert state.provisional[SLOT] == 2 and state.last_own(SLOT) == 5
    there = poisoned_state_of(mixer)
    there.skip([SLOT], [11])
    push(mixer, there, x_TD[5:].repeat(2, 1))
    for ours, theirs in zip(state.newest(SLOT, 2), there.newest(SLOT, 2), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    mixer.rollback(state, [SLOT], 1)
    push(mixer, state, x_TD[:1])
    assert state.last_own(SLOT) == 8


@torch.inference_mode()
def test_without_an_entry_of_its_own_a_token_passes_unseen() -> None:
    mixer = make(5)
    state = poisoned_state_of(mixer)
    mixer.repeat_entry(state, [SLOT], [2])
    assert (state.position[SLOT], state.written(SLOT)) == (2, 0)


@pytest.mark.parametrize("window", [1, 16])
@torch.inference_mode()
def test_the_last_own_entry_is_never_forgotten(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies in a row, as many as there may be, while the buffer gets full and older entries are dropped."""
    mixer = make(window)
    short, whole = states(mixer, monkeypatch)
    size, x_TD = short.pos.shape[1], hidden(LENGTH, WIDTH, torch.float32)
    for state in (short, whole):
        for start in range(0, size - 7, RUN_LIMIT):
            count = min(RUN_LIMIT, size - 7 - start)
            push(mixer, state, x_TD[start : start + count])
            mixer.commit(state, [SLOT], [count])
        for _ in range(RUN_LIMIT - 1):
            mixer.repeat_entry(state, [SLOT], [1])
            mixer.commit(state, [SLOT], [1])
        assert state.last_own(SLOT) == size - 8
    assert short.oldest[SLOT] > 0
    assert_same(mixer.snapshot(short, SLOT), mixer.snapshot(whole, SLOT))
