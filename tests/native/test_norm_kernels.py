"""Norms: against the ops in PyTorch, in place, with their rounding, row by row.

Shapes: N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from offramp.native.emit.columns import Columns, columns
from offramp.native.emit.linear import linear
from offramp.native.emit.norm import gated_group_norm, head_norm, layer_norm, rms_norm
from offramp.native.emit.operand import operand
from offramp.native.library import Library
from offramp.native.program import Builder, Register
from offramp.native.quantise import quantise
from offramp.native.structures import BF16, F32, I4, I8
from offramp.ops import norm as ops

WIDTHS = [1, 5, 16, 33, 768, 2050]
EPS = 1e-5
Emit = Callable[[Builder, Register], Sequence[Register | Columns]]


def runner(library: Library, width: int, emit: Emit) -> Callable[[Tensor], list[Tensor]]:
    builder = Builder(library)
    x = builder.register(width)
    program = builder.build(x, emit(builder, x))
    return lambda x_ND: [out.clone() for out in program.run(x_ND, [0], [len(x_ND)])]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", WIDTHS)
def test_rms(library: Library, width: int) -> None:
    x_ND, weight = numbers(5, width) * 3, numbers(width, seed=1)
    (out,) = runner(library, width, lambda builder, x: [rms_norm(builder, x, weight, EPS)])(x_ND)
    torch.testing.assert_close(out, ops.rms_norm_naive(x_ND, weight, EPS))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("biased", [True, False])
def test_layer(library: Library, width: int, biased: bool) -> None:
    """Of numbers that lie far from zero."""
    x_ND, (weight, bias) = numbers(5, width) + 30, numbers(2, width, seed=1)
    bias = bias if biased else None
    (out,) = runner(library, width, lambda builder, x: [layer_norm(builder, x, weight, bias, EPS)])(x_ND)
    expected = ops.layer_norm_naive(
        x_ND.double(), weight.double(), 0.0 * weight if bias is None else bias, EPS
    )
    torch.testing.assert_close(out, expected.float(), rtol=1e-4, atol=1e-4)


def test_without_a_weight_over_some_columns_in_place(library: Library) -> None:
    """As FalconMamba norms its step sizes, B and C, side by side in one register."""

    def emit(builder: Builder, x: Register) -> list[Register]:
        for begin, width in ((0, 10), (10, 17)):
            part = columns(x, begin)
            rms_norm(builder, part, None, EPS, width, out=part)
        return [x]

    x_ND = numbers(7, 40)
    (out,) = runner(library, 40, emit)(x_ND)
    torch.testing.assert_close(out[:, :10], ops.rms_norm_naive(x_ND[:, :10], torch.ones(10), EPS))
    torch.testing.assert_close(out[:, 10:27], ops.rms_norm_naive(x_ND[:, 10:27], torch.ones(17), EPS))
    assert torch.equal(out[:, 27:], x_ND[:, 27:])


@pytest.mark.parametrize("size", [8, 20, 64])
def test_heads(library: Library, size: int) -> None:
    weight = numbers(size, seed=1)

    def emit(builder: Builder, x: Register) -> list[Register]:
        head_norm(builder, columns(x, 2), weight, 3, EPS)
        return [x]

    x_ND = numbers(6, 3 * size + 5)
    (out,) = runner(library, 3 * size + 5, emit)(x_ND)
    heads = x_ND[:, 2 : 2 + 3 * size].unflatten(1, (3, size))
    expected = ops.rms_norm_naive(heads, weight, EPS).flatten(1)
    torch.testing.assert_close(out[:, 2 : 2 + 3 * size], expected)
    assert torch.equal(out[:, :2], x_ND[:, :2]) and torch.equal(out[:, -3:], x_ND[:, -3:])


@pytest.mark.parametrize("width, groups", [(48, 1), (48, 3), (160, 2), (21, 1)])
def test_gated_groups(library: Library, width: int, groups: int) -> None:
    """z lies before y in one register."""
    weight = numbers(width, seed=1)

    def emit(builder: Builder, x: Register) -> list[Register]:
        return [gated_group_norm(builder, columns(x, width), x, weight, groups, EPS)]

    both = numbers(6, 2 * width) * 2
    (out,) = runner(library, 2 * width, emit)(both)
    expected = ops.gated_group_norm_naive(both[:, width:], both[:, :width], weight, groups, EPS)
    torch.testing.assert_close(out, expected)


def all_kinds(builder: Builder, x: Register) -> list[Register | Columns]:
    weight, bias = numbers(2, 40, seed=1)
    outs = [
        rms_norm(builder, x, weight, EPS),
        layer_norm(builder, x, weight, bias, EPS),
        gated_group_norm(builder, x, x, weight, 4, EPS),
    ]
    head_norm(builder, x, weight[:8], 5, EPS)
    return [*outs, x]


def test_a_token_depends_on_itself_alone(library: Library) -> None:
    run, x_ND = runner(library, 40, all_kinds), numbers(23, 40)
    together = run(x_ND)
    for library.threads in (1, 2, 3, 4):
        for count in (1, 2, 23):
            parts = [run(part) for part in x_ND.split(count)]
            assert all(
                torch.equal(torch.cat(out), whole)
                for out, whole in zip(zip(*parts, strict=True), together, strict=True)
            )


def test_nan_stays_in_its_token(library: Library) -> None:
    run, x_ND = runner(library, 40, all_kinds), numbers(5, 40)
    sound = run(x_ND)
    x_ND[3] = torch.nan
    for out, before in zip(run(x_ND), sound, strict=True):
        assert out[3].isnan().all()
        assert torch.equal(out[[0, 1, 2, 4]], before[[0, 1, 2, 4]])


@pytest.mark.parametrize("format", [F32, BF16, I8, I4])
def test_a_norm_rounds_what_a_product_reads(library: Library, format: int) -> None:
    """Without a step of its own, and to the same numbers as that step would."""
    weight, matrix_FD = numbers(70, seed=1), numbers(9, 70, seed=2)
    read = quantise(matrix_FD, format) if format in (I8, I4) else matrix_FD
    read = matrix_FD.bfloat16() if format == BF16 else read

    def fused(builder: Builder, x: Register) -> list[Register | Columns]:
        normed = rms_norm(builder, x, weight, EPS)
        outs = [linear(builder, normed, read), normed]
        assert len(builder.steps) == 2
        return outs

    def apart(builder: Builder, x: Register) -> list[Register | Columns]:
        normed = rms_norm(builder, x, weight, EPS)
        rms_norm(builder, x, weight, EPS)
        return [linear(builder, operand(builder, normed, 70, format), read), normed]

    x_ND = numbers(5, 70)
    for a, b in zip(runner(library, 70, fused)(x_ND), runner(library, 70, apart)(x_ND), strict=True):
        assert torch.equal(a, b)
