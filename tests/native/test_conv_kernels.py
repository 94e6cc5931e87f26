"""The convolution's kernel against the naive twin, with its tape."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from kernel_schedules import (
    MOST,
    SLOTS,
    assert_nan_stays_in_its_row,
    assert_rounds_for_a_product,
    assert_same_on_every_schedule,
    each_isa,
    library,
    random_inputs,
)
from torch import Tensor

from offramp.native.emit.columns import columns
from offramp.native.emit.conv import Tape, convolve
from offramp.native.program import Builder
from offramp.ops.conv import causal_conv_naive

SIZES = [(96, 4), (7, 3), (40, 1), (33, 8), (200, 2)]


class ConvRig:
    """A tape for every slot. Inputs stand in the middle of a wider register."""

    def __init__(
        self,
        isa: str,
        size: tuple[int, int],
        threads: int = 1,
        dtype: torch.dtype = torch.float32,
        bias: bool = True,
    ) -> None:
        (self.channels, self.taps), self.threads = size, threads
        self.library, self.width = library(isa, threads), size[0] + 9
        tape = torch.full((SLOTS, self.taps - 1 + MOST, self.channels), torch.nan, dtype=dtype)
        tape[:, : self.taps - 1] = 0
        weight, bias_C = random_inputs(1, *size), random_inputs(2, 1, self.channels)[0]
        self.tape = Tape(tape, weight, bias_C if bias else None)
        self.provisional = [0] * SLOTS
        to = Builder(self.library)
        x = to.register(self.width)
        self.program = to.build(x, [convolve(to, to.part(), self.tape, columns(x, 5))])
        again = Builder(self.library)
        self.again = again.build(again.register(1), [convolve(again, again.part(), self.tape, None)])

    def push(self, rows: Sequence[int], n: Sequence[int], x_ND: Tensor) -> Tensor:
        marks = [[(self.provisional[slot], 0, 0, 0) for slot in rows]]
        self.library.threads = self.threads
        for slot, count in zip(rows, n, strict=True):
            self.provisional[slot] += count
        return self.program.run(x_ND, rows, n, marks)[0]

    def replay(self, rows: Sequence[int], n: Sequence[int]) -> Tensor:
        """Of the first n[i] provisional tokens."""
        return self.again.run(torch.zeros(sum(n), 1), rows, n, [[(0, 0, 0, 0)] * len(rows)])[0]

    def commit(self, rows: Sequence[int], keep: Sequence[int]) -> None:
        for slot, count in zip(rows, keep, strict=True):
            window = self.tape.inputs[slot, count : count + self.taps - 1].clone()
            self.tape.inputs[slot, : self.taps - 1] = window
            self.provisional[slot] = 0

    def final(self, slot: int) -> list[Tensor]:
        return [self.tape.inputs[slot, : self.taps - 1]]


@each_isa
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_naive_twin(isa: str, size: tuple[int, int], bias: bool, dtype: torch.dtype) -> None:
    rig = ConvRig(isa, size, threads=2, dtype=dtype, bias=bias)
    heard: list[list[Tensor]] = [[] for _ in range(SLOTS)]
    for turn, (rows, n) in enumerate([([0, 1, 4], [1, 9, 2]), ([1, 4], [3, 11])]):
        x_ND = random_inputs(turn, sum(n), rig.width)
        out_ND = rig.push(rows, n, x_ND)
        for slot, x, out in zip(rows, x_ND.split(n), out_ND.split(n), strict=True):
            heard[slot] += x[:, 5:-4].to(dtype).float()
            y_RTC = causal_conv_naive(torch.stack(heard[slot])[None], rig.tape.weight, rig.tape.bias)
            torch.testing.assert_close(out, F.silu(y_RTC)[0, -len(out) :], rtol=1e-5, atol=1e-5)


@each_isa
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", SIZES)
def test_a_replay_gives_the_same_bits(isa: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    rig = ConvRig(isa, size, threads=2, dtype=dtype)
    first = rig.push([1, 2], [6, 4], random_inputs(0, 10, rig.width)).clone()
    assert torch.equal(rig.replay([1, 2], [5, 4]), torch.cat((first[:5], first[6:])))


@each_isa
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", SIZES)
def test_same_on_every_schedule(isa: str, size: tuple[int, int], seed: int) -> None:
    assert_same_on_every_schedule(partial(ConvRig, isa, size), seed)


@each_isa
def test_nan_stays_in_its_row(isa: str) -> None:
    assert_nan_stays_in_its_row(partial(ConvRig, isa, (96, 4)))


@each_isa
def test_rounds_for_the_product_that_follows(isa: str) -> None:
    rig = ConvRig(isa, (128, 4), threads=2)
    to = Builder(rig.library)
    x = to.register(rig.width)
    u = convolve(to, to.part(), rig.tape, columns(x, 5))
    assert_rounds_for_a_product(to, x, u, [[(0, 0, 0, 0)]])


@each_isa
def test_only_wanted_channels_and_the_whole_tape(isa: str) -> None:
    all, some = ConvRig(isa, (200, 4)), ConvRig(isa, (200, 4))
    to = Builder(some.library)
    x = to.register(some.width)
    program = to.build(x, [convolve(to, to.part(), some.tape, columns(x, 5), wanted=70)])
    x_ND = random_inputs(0, 3, all.width)
    expected = all.push([2], [3], x_ND)
    out = program.run(x_ND, [2], [3], [[(0, 0, 0, 0)]])[0]
    assert torch.equal(out[:, :70], expected[:, :70])
    assert torch.equal(some.tape.inputs[2, :6], all.tape.inputs[2, :6])
