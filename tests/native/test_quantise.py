"""Weights of 8 and 4 bits: what is lost, how they lie in memory, and that products with them are whole numbers.

Shapes: F rows, K columns.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from offramp.errors import CheckpointError
from offramp.native.emit.linear import linear
from offramp.native.library import Library
from offramp.native.program import Builder
from offramp.native.quantise import BLOCK, quantise
from offramp.native.structures import I4, I8

STEPS = {I8: 127, I4: 8}
"""From zero to the largest weight of a block."""


@pytest.mark.parametrize("format", STEPS)
@given(st.integers(0, 99), st.integers(1, 5), st.integers(1, 200), st.floats(1e-6, 1e6))
def test_no_weight_moves_further_than_its_step(
    format: int, seed: int, rows: int, width: int, size: float
) -> None:
    """Half a step of its block, and for the rounding of the scale 1/256 of the largest; four bits, which have no 8,
    a whole step."""
    weight_FK = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * size
    error = (quantise(weight_FK, format).dequantised() - weight_FK).abs()
    for begin in range(0, width, BLOCK):
        most = weight_FK[:, begin : begin + BLOCK].abs().amax(1, keepdim=True)
        step = most / STEPS[format]
        allowed = (step / 2 if format == I8 else step) + most / 200
        assert (error[:, begin : begin + BLOCK] <= allowed).all()


@pytest.mark.parametrize("format", STEPS)
def test_what_is_quantised_already_is_not_changed(format: int) -> None:
    once = quantise(torch.randn(40, 300), format).dequantised()
    assert torch.equal(quantise(once, format).dequantised(), once)


@pytest.mark.parametrize("format, bits", [(I8, 8.5), (I4, 4.5)])
def test_bytes(format: int, bits: float) -> None:
    weight = quantise(torch.randn(16, 256), format)
    assert weight.bytes == 16 * 256 * bits / 8


@pytest.mark.parametrize("format", STEPS)
def test_zeros_and_hardly_more(format: int) -> None:
    weight_FK = torch.zeros(2, 64)
    weight_FK[1] = 1e-41
    assert quantise(weight_FK, format).dequantised().abs().max() <= 2e-41
    assert quantise(weight_FK[:1], format).dequantised().eq(0).all()


@pytest.mark.parametrize("format", STEPS)
def test_many_rows_are_taken_piece_by_piece(format: int) -> None:
    weight_FK = torch.randn(9000, 3)
    whole = quantise(weight_FK.bfloat16(), format).dequantised()
    assert torch.equal(whole[8990:], quantise(weight_FK[8990:].bfloat16(), format).dequantised())


@pytest.mark.parametrize("unsound", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(unsound: float) -> None:
    weight_FK = torch.ones(3, 40)
    weight_FK[2, 39] = unsound
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        quantise(weight_FK, I8)


@pytest.mark.parametrize("format, most", [(I8, 127), (I4, -8)])
def test_sums_are_whole_numbers_on_every_processor(library: Library, format: int, most: int) -> None:
    """With scales of one nothing is rounded: the product is the one of integers, exactly."""
    generator = torch.Generator().manual_seed(0)
    weight_FK = torch.randint(-abs(most) + 1, abs(most), (37, 448), generator=generator).float()
    x_NK = torch.randint(-127, 128, (9, 448), generator=generator).float()
    weight_FK[:, ::BLOCK], x_NK[:, 0] = most, 127
    builder = Builder(library)
    x = builder.register(448)
    program = builder.build(x, [linear(builder, x, quantise(weight_FK, format))])
    assert torch.equal(program.run(x_NK, [0], [9])[0].double(), x_NK.double() @ weight_FK.double().T)
