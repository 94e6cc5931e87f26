"""Mamba-1's recurrence against its naive twin, on every schedule, and replayed; and its form for prompts."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_schedules import (
    MOST,
    SLOTS,
    assert_nan_stays_in_its_row,
    assert_rounds_for_a_product,
    assert_same_on_every_schedule,
    each_isa,
    library,
    random_inputs,
    rounds,
)
from recurrent_rig import RecurrentRig, assert_advance_leaves_the_same_bits
from torch import Tensor

from offramp.native.emit import scan
from offramp.native.emit.columns import columns
from offramp.native.program import Builder
from offramp.native.selective_scan import selective_scan
from offramp.ops.scan import selective_scan_naive

SIZES = [(64, 16), (37, 16), (48, 7), (5, 40)]
"""Channels and state."""


def weights(channels: int, state: int) -> tuple[Tensor, Tensor, Tensor]:
    """dt's bias, A, D."""
    return (
        random_inputs(1, 1, channels)[0] - 1,
        -torch.exp(random_inputs(2, channels, state)),
        random_inputs(3, 1, channels)[0],
    )


class ScanRig(RecurrentRig):
    """x is u, dt before its bias, B, C and z side by side."""

    def __init__(self, isa: str, size: tuple[int, int], threads: int = 1, gated: bool = True) -> None:
        super().__init__(isa, threads)
        self.channels, self.state = size
        self.split = (self.channels, self.channels, self.state, self.state, self.channels)
        self.width, self.gated = sum(self.split), gated
        self.ssm = torch.zeros(2, SLOTS, *size)
        self.ssm[1] = torch.nan
        rings = [torch.full((SLOTS, MOST, width), torch.nan) for width in self.split[:3]]
        self.memory = scan.ScanMemory(self.ssm, *rings, *weights(*size))
        self._build()

    def final(self, slot: int) -> list[Tensor]:
        return [self.ssm[self.base[slot], slot]]

    def shift(self, slot: int, count: int) -> None:
        """There is no window."""

    def naive(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """y and the state after tokens that begin a sequence."""
        u, raw, B, C, z = x_TD.double()[None].split(self.split, dim=-1)
        dt = F.softplus(raw + self.memory.dt_bias)
        y_RTE, h_REN = selective_scan_naive(u, dt, self.memory.A.double(), B, C, self.memory.D.double())
        return (y_RTE * F.silu(z) if self.gated else y_RTE)[0].float(), h_REN[0].float()

    def _build(self) -> None:
        at = [sum(self.split[:i]) for i in range(5)]
        to = Builder(self.library)
        part, x = to.part(), to.register(self.width)
        u, raw, B, C, z = (columns(x, begin) for begin in at)
        drive = scan.Drive(u, raw, B)
        self.run = to.build(x, [scan.run(to, part, self.memory, drive, C, z if self.gated else None)])
        to = Builder(self.library)
        part, x = to.part(), to.register(self.width)
        scan.advance(to, part, self.memory, scan.Drive(*(columns(x, begin) for begin in at[:3])))
        self.advances = to.build(x, [])
        to = Builder(self.library)
        part, x = to.part(), to.register(1)
        scan.replay(to, part, self.memory)
        self.replay = to.build(x, [])


@each_isa
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_naive_twin_on_a_random_schedule(isa: str, size: tuple[int, int], gated: bool) -> None:
    rig = ScanRig(isa, size, threads=2, gated=gated)
    final, pending = ([torch.zeros(0, rig.width)] * SLOTS for _ in range(2))
    for i, step in enumerate(rounds(7, 10)):
        x_ND = random_inputs(i, sum(step.n), rig.width)
        out_ND = rig.push(step.rows, step.n, x_ND)
        for slot, x, out in zip(step.rows, x_ND.split(step.n), out_ND.split(step.n), strict=True):
            pending[slot] = torch.cat((pending[slot], x))
            y_TE, h_EN = rig.naive(torch.cat((final[slot], pending[slot])))
            torch.testing.assert_close(out, y_TE[-len(x) :], rtol=1e-5, atol=2e-5)
            torch.testing.assert_close(rig.ssm[1 - rig.base[slot], slot], h_EN, rtol=1e-5, atol=1e-5)
        if step.keep is not None:
            rig.commit(list(step.keep), list(step.keep.values()))
            for slot, count in step.keep.items():
                final[slot], pending[slot] = (
                    torch.cat((final[slot], pending[slot][:count])),
                    pending[slot][:0],
                )
                if len(final[slot]):
                    h_EN = rig.naive(final[slot])[1]
                    torch.testing.assert_close(rig.final(slot)[0], h_EN, rtol=1e-5, atol=1e-5)


@each_isa
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", SIZES)
def test_same_on_every_schedule(isa: str, size: tuple[int, int], seed: int) -> None:
    assert_same_on_every_schedule(partial(ScanRig, isa, size), seed)


@each_isa
@pytest.mark.parametrize("size", SIZES)
def test_advance_leaves_the_same_bits(isa: str, size: tuple[int, int]) -> None:
    ran, advanced = ScanRig(isa, size), ScanRig(isa, size, threads=3)
    assert_advance_leaves_the_same_bits(ran, advanced, random_inputs(0, 12, ran.width))


@each_isa
def test_nan_stays_in_its_row(isa: str) -> None:
    assert_nan_stays_in_its_row(partial(ScanRig, isa, (37, 16)))


def cell_inputs(rows: int, tokens: int, size: tuple[int, int], seed: int = 0) -> tuple[Tensor, ...]:
    """What `selective_scan` wants, without the state."""
    channels, state = size
    u, raw = random_inputs(seed, 2 * rows * tokens, channels).unflatten(0, (2, rows, tokens))
    B, C = random_inputs(seed + 1, 2 * rows * tokens, state).unflatten(0, (2, rows, tokens))
    bias, A, D = weights(channels, state)
    return u, F.softplus(raw + bias), A, B, C, D


@each_isa
@pytest.mark.parametrize("size", SIZES)
def test_a_prompt_cell_equals_the_naive_twin(isa: str, size: tuple[int, int]) -> None:
    inputs, initial = cell_inputs(2, 70, size), random_inputs(9, 2 * size[0], size[1]).unflatten(0, (2, -1))
    before = initial.clone()
    for state in (None, initial):
        ours = selective_scan(library(isa, 2), *inputs, state)
        theirs = selective_scan_naive(
            *(x.double() for x in inputs), None if state is None else state.double()
        )
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=2e-5)
    assert torch.equal(initial, before)


@each_isa
@settings(max_examples=15)
@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=5), threads=st.integers(1, 4))
def test_cutting_a_prompt_changes_no_bit(isa: str, cuts: list[int], threads: int) -> None:
    u, dt, A, B, C, D = cell_inputs(3, sum(cuts), (37, 16))
    whole_y, whole_h = selective_scan(library(isa, 1), u, dt, A, B, C, D)
    for row in range(3):
        outputs, h = [], None
        for part in zip(*(x[row : row + 1].split(cuts, dim=1) for x in (u, dt, B, C)), strict=True):
            y, h = selective_scan(library(isa, threads), *part[:2], A, *part[2:], D, h)
            outputs.append(y)
        assert torch.equal(torch.cat(outputs, dim=1)[0], whole_y[row])
        assert h is not None and torch.equal(h[0], whole_h[row])


@each_isa
def test_a_prompt_and_single_tokens_give_the_same_bits(isa: str) -> None:
    """The same steps in both forms."""
    rig = ScanRig(isa, (37, 16), gated=False)
    x_TD = random_inputs(0, 16, rig.width)
    y_TE = rig.push([2], [16], x_TD)
    u, _, B, C, _ = x_TD[None].split(rig.split, dim=-1)
    _, A, D = weights(37, 16)
    ours, h = selective_scan(rig.library, u, rig.memory.ring_dt[2:3], A, B, C, D)
    assert torch.equal(ours[0], y_TE) and torch.equal(h[0], rig.ssm[1, 2])


@each_isa
def test_rounds_for_the_product_that_follows(isa: str) -> None:
    rig = ScanRig(isa, (64, 16), threads=2)
    to, at = Builder(rig.library), [sum(rig.split[:i]) for i in range(5)]
    part, x = to.part(), to.register(rig.width)
    u, raw, B, C, z = (columns(x, begin) for begin in at)
    y = scan.run(to, part, rig.memory, scan.Drive(u, raw, B), C, z)
    assert_rounds_for_a_product(to, x, y, [[(0, 0, 1, SLOTS + 1)]])
