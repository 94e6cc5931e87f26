"""Attention's kernels against the naive twin and the mixer, and on every schedule."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
import torch
from kernel_schedules import (
    SLOTS,
    assert_nan_stays_in_its_row,
    assert_rounds_for_a_product,
    assert_same_on_every_schedule,
    each_isa,
    library,
    random_inputs,
)
from torch import Tensor

from offramp.mixers.attention import Attention
from offramp.native.emit.attention import AttentionMemory, attend, write_entries
from offramp.native.emit.columns import columns
from offramp.native.program import Builder, Program
from offramp.ops.attention_cached import Cache, Chunk, attend_cached_naive
from offramp.ops.rope import Rope, rotate

SAMPLES = {
    "plain": Attention(96, heads=3, head_dim=32),
    "grouped": Attention(96, heads=6, kv_heads=2, head_dim=16),
    "one key": Attention(96, heads=5, kv_heads=1, head_dim=48),
    "odd": Attention(21, heads=3, head_dim=7, rope=Rope(share=0.6)),
    "without positions": Attention(96, heads=4, head_dim=24, rope=None),
    "window": Attention(96, heads=4, kv_heads=2, head_dim=32, window=7),
    "long window": Attention(96, heads=2, kv_heads=1, head_dim=8, window=300),
}


class AttentionRig:
    """x is queries, keys and values side by side."""

    def __init__(
        self,
        isa: str,
        mixer: Attention,
        threads: int = 1,
        dtype: torch.dtype = torch.float32,
        length: int = 400,
    ) -> None:
        self.mixer, self.threads, self.library = mixer, threads, library(isa, threads)
        self.state = mixer.to(dtype).init_state(SLOTS, length)
        mixer.float()
        self.state.k.fill_(torch.nan)
        self.state.v.fill_(torch.nan)
        self.queries, self.keys = mixer.heads * mixer.head_dim, mixer.kv_heads * mixer.head_dim
        self.width = self.queries + 2 * self.keys
        self.cos, self.sin = mixer._tables(2 * length, torch.empty(0, dtype=dtype))
        self.program = self._program()

    def push(self, rows: Sequence[int], n: Sequence[int], x_ND: Tensor) -> Tensor:
        return self.attend([self.state.claim(slot, count) for slot, count in zip(rows, n, strict=True)], x_ND)

    def attend(self, chunks: Sequence[Chunk], x_ND: Tensor) -> Tensor:
        rows, n = [chunk.slot for chunk in chunks], [chunk.n for chunk in chunks]
        marks = [[(chunk.place, chunk.position, 0, 0) for chunk in chunks]]
        self.library.threads = self.threads
        return self.program.run(x_ND, rows, n, marks)[0]

    def commit(self, rows: Sequence[int], keep: Sequence[int]) -> None:
        for slot, count in zip(rows, keep, strict=True):
            self.state.commit(slot, count)

    def final(self, slot: int) -> list[Tensor]:
        last = self.state.entries[slot]
        first = 0 if self.mixer.window is None else max(0, last - self.mixer.window)
        return list(self.state.read(slot, first, last))

    def naive(self, chunks: Sequence[Chunk], x_ND: Tensor) -> Tensor:
        """What `attend` gives, once it has written the entries."""
        q_NHK = self.turned(chunks, x_ND[:, : self.queries])
        state = self.state
        k, v = (part.float() for part in (state.k, state.v))
        return attend_cached_naive(q_NHK, Cache(k, v, state.pos), chunks, self.mixer.window).flatten(1)

    def turned(self, chunks: Sequence[Chunk], x_NF: Tensor) -> Tensor:
        x_NHK = x_NF.unflatten(1, (-1, self.mixer.head_dim))
        if self.cos is None or self.sin is None:
            return x_NHK
        at = torch.tensor([chunk.position + t for chunk in chunks for t in range(chunk.n)])
        return rotate(x_NHK, self.cos[at], self.sin[at])

    def _program(self) -> Program:
        to = Builder(self.library)
        part, x = to.part(), to.register(self.width)
        state = self.state
        memory = AttentionMemory(state.k, state.v, state.pos, self.cos, self.sin)
        write_entries(to, part, memory, columns(x, self.queries), columns(x, self.queries + self.keys))
        return to.build(x, [attend(to, part, memory, columns(x), self.mixer.heads, self.mixer.window)])


@each_isa
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SAMPLES)
def test_equals_the_naive_twin(isa: str, name: str, dtype: torch.dtype) -> None:
    rig = AttentionRig(isa, SAMPLES[name], threads=2, dtype=dtype)
    for turn, (rows, n) in enumerate([([0, 1, 4], [1, 16, 2]), ([0, 1], [16, 1]), ([1, 2, 4], [3, 1, 9])]):
        chunks = [rig.state.claim(slot, count) for slot, count in zip(rows, n, strict=True)]
        x_ND = random_inputs(turn, sum(n), rig.width)
        out_ND = rig.attend(chunks, x_ND)
        torch.testing.assert_close(out_ND, rig.naive(chunks, x_ND), rtol=1e-5, atol=1e-5)
        rig.commit(rows, n)


@each_isa
@pytest.mark.parametrize("window", [None, 300])
def test_equals_the_naive_twin_over_many_blocks(isa: str, window: int | None) -> None:
    rig = AttentionRig(isa, Attention(64, heads=4, kv_heads=2, head_dim=16, window=window), length=900)
    seen = [(1, 700), (3, 511)]
    for slot, tokens in seen:
        for done in range(0, tokens, 16):
            n = min(16, tokens - done)
            rig.push([slot], [n], random_inputs(done, n, rig.width))
            rig.commit([slot], [n])
    chunks = [rig.state.claim(1, 2), rig.state.claim(3, 5)]
    x_ND = random_inputs(1, 7, rig.width) * 3  # weights far from even
    torch.testing.assert_close(rig.attend(chunks, x_ND), rig.naive(chunks, x_ND), rtol=1e-5, atol=1e-5)


@each_isa
@pytest.mark.parametrize("name", SAMPLES)
def test_equals_the_mixer(isa: str, name: str) -> None:
    mixer = SAMPLES[name]
    rig, state = AttentionRig(isa, mixer), mixer.init_state(SLOTS, 400)
    with torch.inference_mode():
        for turn, (rows, n) in enumerate([([0, 3], [2, 5]), ([0, 1, 3], [3, 7, 1])]):
            x_ND = random_inputs(turn, sum(n), mixer.q_proj.in_features)
            q, (k, v) = mixer._queries(x_ND), mixer._keys_and_values(x_ND)
            out_ND = rig.push(rows, n, torch.cat([part.flatten(1) for part in (q, k, v)], dim=1))
            torch.testing.assert_close(
                mixer.o_proj(out_ND), mixer(x_ND, state, rows, n), rtol=1e-5, atol=1e-5
            )
            for slot in rows:
                last = state.written(slot)
                for ours, theirs in zip(
                    rig.state.read(slot, 0, last), state.read(slot, 0, last), strict=True
                ):
                    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@each_isa
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SAMPLES)
def test_same_on_every_schedule(isa: str, name: str, seed: int) -> None:
    assert_same_on_every_schedule(partial(AttentionRig, isa, SAMPLES[name]), seed)


@each_isa
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_window_that_moves_in_its_buffer_changes_nothing(isa: str, dtype: torch.dtype) -> None:
    """The buffer of a window is moved to its front when it is full: at another time for every schedule."""
    mixer, tokens = Attention(32, heads=2, head_dim=16, window=20), 900
    x_ND = random_inputs(3, tokens, 3 * 32)
    results = []
    for chunk in (1, 16):
        rig = AttentionRig(isa, mixer, dtype=dtype, length=2000)
        out = [push_final(rig, part) for part in x_ND.split(chunk)]
        results.append(torch.cat(out))
    assert torch.equal(*results)


def push_final(rig: AttentionRig, x_ND: Tensor) -> Tensor:
    out = rig.push([2], [len(x_ND)], x_ND).clone()
    rig.commit([2], [len(x_ND)])
    return out


@each_isa
@pytest.mark.parametrize("threads", [2, 3, 4])
def test_threads_change_no_bit_of_one_long_row(isa: str, threads: int) -> None:
    mixer = SAMPLES["grouped"]
    one, many = AttentionRig(isa, mixer), AttentionRig(isa, mixer, threads)
    for n in (16, 16, 1, 3):
        x_ND = random_inputs(n, n, one.width)
        assert torch.equal(push_final(one, x_ND), push_final(many, x_ND))


@each_isa
def test_a_window_counts_positions_and_not_entries(isa: str) -> None:
    """Skipped tokens have a position and no entry."""
    rig = AttentionRig(isa, SAMPLES["window"])
    for turn, skipped in enumerate([0, 3, 0, 5, 1]):
        rig.state.skip([1], [skipped])
        chunks = [rig.state.claim(1, 3)]
        x_ND = random_inputs(turn, 3, rig.width)
        torch.testing.assert_close(rig.attend(chunks, x_ND), rig.naive(chunks, x_ND), rtol=1e-5, atol=1e-5)
        rig.commit([1], [3])


@each_isa
@pytest.mark.parametrize("name", ["plain", "grouped", "window"])
def test_nan_stays_in_its_row(isa: str, name: str) -> None:
    assert_nan_stays_in_its_row(partial(AttentionRig, isa, SAMPLES[name]))


@each_isa
def test_nan_of_a_later_token_does_not_reach_an_earlier_one(isa: str) -> None:
    mixer = SAMPLES["plain"]
    clean, dirty = AttentionRig(isa, mixer), AttentionRig(isa, mixer)
    x_ND = random_inputs(0, 4, clean.width)
    ours = clean.push([0], [4], x_ND).clone()
    x_ND[2] = torch.nan
    theirs = dirty.push([0], [4], x_ND)
    assert torch.equal(ours[:2], theirs[:2]) and theirs[2:].isnan().all()


@each_isa
def test_rounds_for_the_product_that_follows(isa: str) -> None:
    rig = AttentionRig(isa, Attention(128, heads=4, kv_heads=2, head_dim=32), threads=2)
    to, state = Builder(rig.library), rig.state
    part, x = to.part(), to.register(rig.width)
    memory = AttentionMemory(state.k, state.v, state.pos, rig.cos, rig.sin)
    write_entries(to, part, memory, columns(x, rig.queries), columns(x, rig.queries + rig.keys))
    made = attend(to, part, memory, columns(x), rig.mixer.heads)
    assert_rounds_for_a_product(to, x, made, [[(0, 0, 0, 0)]])
