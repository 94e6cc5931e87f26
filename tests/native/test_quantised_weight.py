"""Quantised matrices in parameters' places: what modules do with them, by kernels and without.

Shapes: N tokens, F rows, K columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.native.product import reference, rounded
from offramp.native.quantise import QuantisedMatrix, quantise, row_bytes, shapes
from offramp.native.quantised_weight import QuantisedWeight
from offramp.native.structures import I4, I8

FORMATS = [I8, I4]
SIZES = [(5, 32), (40, 216), (7, 65)]
"""F, K: blocks that are whole and in pairs, an odd number of them, and a part of one."""


def weight(rows: int, columns: int, format: int = I8) -> QuantisedWeight:
    drawn = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))
    return QuantisedWeight(quantise(drawn, format))


def tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


@contextmanager
def without_kernels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFRAMP_KERNELS", "none")
        yield


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("rows, columns", SIZES)
def test_a_linear_map_is_the_product_of_what_was_rounded(format: int, rows: int, columns: int) -> None:
    """In float64, of the steps that tokens are rounded to; by the kernel, where there is one, and as it is defined."""
    layer = nn.Linear(columns, rows)
    matrix = weight(rows, columns, format)
    layer.weight = nn.Parameter(matrix, requires_grad=False)
    x = tokens(3, 100, columns)
    steps, size = rounded(x)
    exact = (steps.double() * size.double()) @ matrix.quantised.dequantised().double().T + layer.bias.double()
    with torch.inference_mode():
        fast = layer(x)
        with without_kernels():
            plain = layer(x)
    for found in (fast, plain):
        assert found.shape == (3, 100, rows) and found.dtype == torch.float32
        torch.testing.assert_close(found.double(), exact, rtol=2e-6, atol=2e-6 * columns**0.5)
    assert (exact - F.linear(x, matrix.quantised.dequantised(), layer.bias)).abs().max() > 1e-4, "rounded"


def test_a_token_rounds_by_its_own_numbers() -> None:
    x = tokens(9, 48) * torch.logspace(-3, 3, 9)[:, None]
    steps, size = rounded(x)
    assert steps.abs().amax(1).eq(127).all() and torch.equal(steps, steps.round())
    for i in range(9):
        assert torch.equal(rounded(x[i])[0], steps[i]) and torch.equal(rounded(x[i])[1], size[i])
    assert ((steps * size - x).abs() <= size / 2 * 1.0001).all()


def test_what_is_unsound_stays_in_its_token() -> None:
    x, matrix = tokens(5, 65), weight(7, 65)
    x[1, 3], x[2, 64], x[3], x[4] = torch.nan, torch.inf, 0, 1e-42
    with torch.inference_mode():
        for found in (F.linear(x, matrix), reference(x, matrix.quantised)):
            assert not found[1:3].isfinite().any() and found[3:].eq(0).all() and found[0].isfinite().all()


def test_no_tokens_and_many() -> None:
    matrix = weight(7, 65)
    with torch.inference_mode():
        assert F.linear(tokens(0, 65), matrix).shape == (0, 7)
        many = tokens(600, 65)
        apart = torch.cat([F.linear(part, matrix) for part in many.split(7)])
        assert torch.equal(F.linear(many, matrix), apart), "row-exact, however calls are cut"


@pytest.mark.parametrize("format", FORMATS)
def test_rows_by_slice_number_and_index(format: int) -> None:
    whole = weight(40, 216, format)
    dense = whole.quantised.dequantised()
    some = whole[11:30]
    assert isinstance(some, QuantisedWeight) and some.shape == (19, 216)
    assert some.quantised.numbers.data_ptr() == whole.quantised.numbers[11:].data_ptr(), "no copy"
    assert torch.equal(some.quantised.dequantised(), dense[11:30])
    assert torch.equal(whole[-3:].quantised.dequantised(), dense[-3:])
    ids = torch.tensor([[3, 3], [39, 0]])
    assert torch.equal(F.embedding(ids, whole), dense[ids])
    for picked in (whole[ids[1]], whole.index_select(0, ids[1])):
        assert isinstance(picked, QuantisedWeight)
        assert torch.equal(picked.quantised.dequantised(), dense[ids[1]])


def test_it_seems_a_float_matrix_and_takes_less() -> None:
    layer = nn.Linear(256, 16, bias=False)
    layer.weight = nn.Parameter(weight(16, 256), requires_grad=False)
    found = layer.weight
    assert isinstance(found, QuantisedWeight) and isinstance(found, nn.Parameter)
    assert (found.shape, found.dtype, found.device.type) == ((16, 256), torch.float32, "cpu")
    assert found.nbytes == 16 * 256 * 17 // 16 and found.numel() == 16 * 256
    assert found.new_zeros(2, 3).dtype == torch.float32
    assert layer.to("cpu").eval().float().weight.quantised is found.quantised
    assert list(layer.state_dict()) == ["weight"] and "int8" in repr(found)


def test_what_would_make_floats_of_it_is_refused() -> None:
    whole = weight(5, 64)
    for wrong in (
        lambda: whole + 1,
        lambda: whole.clone(),
        lambda: whole.T,
        lambda: whole.data_ptr(),
        lambda: whole.to(torch.bfloat16),
        lambda: nn.Linear(64, 5).requires_grad_(False).weight.copy_(whole),
    ):
        with pytest.raises((TypeError, NotImplementedError)):
            wrong()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("rows, columns", SIZES)
def test_its_size_is_known_before(format: int, rows: int, columns: int) -> None:
    made: QuantisedMatrix = weight(rows, columns, format).quantised
    known = shapes(rows, columns, format)
    assert {name: (tuple(getattr(made, name).shape), getattr(made, name).dtype) for name in known} == known
    assert made.bytes == rows * row_bytes(columns, format)
    empty = torch.empty_like(weight(rows, columns, format), device="meta")
    assert empty.is_meta and empty.quantised.numbers.shape == made.numbers.shape
