"""Products of matrices with tokens: against float64, row by row, on any number of threads.

Shapes: N tokens, K columns, F rows: outputs.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from offramp.native.emit.columns import columns
from offramp.native.emit.linear import Map, Weight, gated, linear, linears
from offramp.native.emit.operand import operand
from offramp.native.library import Library, runnable
from offramp.native.program import Builder, Register
from offramp.native.quantise import QuantisedMatrix, quantise
from offramp.native.structures import BF16, F32, I4, I8

FORMATS = {"f32": F32, "bf16": BF16, "i8": I8, "i4": I4}
SHAPES = [(1, 1), (1, 768), (3, 7), (17, 33), (64, 160), (100, 768), (1000, 33), (5, 2050)]
"""F, K."""


def weights(form: str, rows: int, width: int, seed: int = 0) -> Weight:
    weight = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    if form in ("i8", "i4"):
        return quantise(weight, FORMATS[form])
    return weight.bfloat16() if form == "bf16" else weight


def tokens(count: int, width: int, seed: int = 1) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def as_read(x_NK: Tensor, form: str) -> Tensor:
    """Tokens in float64 as a product with such a matrix reads them."""
    if form == "f32":
        return x_NK.double()
    if form == "bf16":
        return x_NK.bfloat16().double()
    most = x_NK.abs().amax(1, keepdim=True)
    return (x_NK * (127 / most)).round().double() * (most / 127).double()


def dense(weight: Weight) -> Tensor:
    return (weight.dequantised() if isinstance(weight, QuantisedMatrix) else weight).double()


def runner(library: Library, width: int, emit: Callable[[Builder, Register], Sequence[Register]]):
    """A function of tokens `[N, K]`: what emit's registers then hold."""
    builder = Builder(library)
    x = builder.register(width)
    program = builder.build(x, emit(builder, x))
    return lambda x_NK: [out.clone() for out in program.run(x_NK, [0], [len(x_NK)])]


def product(library: Library, weight: Weight, **options) -> Callable[[Tensor], Tensor]:
    width = weight.columns if isinstance(weight, QuantisedMatrix) else weight.shape[1]
    run = runner(library, width, lambda builder, x: [linear(builder, x, weight, **options)])
    return lambda x_NK: run(x_NK)[0]


def check_close(out: Tensor, x_NK: Tensor, weight: Weight, form: str) -> None:
    """Within 1e-6 of what the sum would be without signs: float32 sums of rounded numbers lose no more."""
    x, w = as_read(x_NK, form), dense(weight)
    assert ((out.double() - x @ w.T).abs() <= 1e-6 * (x.abs() @ w.abs().T) + 1e-30).all()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("rows, width", SHAPES)
def test_it_is_the_product(library: Library, form: str, rows: int, width: int) -> None:
    weight, x_NK = weights(form, rows, width), tokens(6, width)
    out = product(library, weight)(x_NK)
    assert out.shape == (6, rows)
    check_close(out, x_NK, weight, form)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("rows, width", [(3, 7), (35, 160), (50, 768)])
def test_a_token_does_not_depend_on_the_others(library: Library, form: str, rows: int, width: int) -> None:
    run, x_NK = product(library, weights(form, rows, width)), tokens(40, width)
    alone = torch.cat([run(x_NK[i : i + 1]) for i in range(40)])
    for count in range(1, 41):
        assert torch.equal(run(x_NK[:count]), alone[:count]), f"{count} tokens"


@pytest.mark.parametrize("form", FORMATS)
def test_hundreds_of_tokens(library: Library, form: str) -> None:
    run, x_NK = product(library, weights(form, 20, 65)), tokens(333, 65)
    assert torch.equal(run(x_NK), torch.cat([run(part) for part in x_NK.split(7)]))


@pytest.mark.parametrize("form", FORMATS)
def test_threads_do_not_matter(library: Library, form: str) -> None:
    run, x_NK = product(library, weights(form, 77, 160)), tokens(5, 160)
    outs = []
    for library.threads in (1, 2, 3, 4):
        outs.append(run(x_NK))
    assert all(torch.equal(out, outs[0]) for out in outs)


@pytest.mark.parametrize("unsound", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("form", FORMATS)
def test_what_is_unsound_stays_in_its_token(library: Library, form: str, unsound: float) -> None:
    run, x_NK = product(library, weights(form, 30, 100)), tokens(9, 100)
    sound = run(x_NK)
    x_NK[4, 99] = unsound
    out = run(x_NK)
    assert not out[4].isfinite().any()
    others = [i for i in range(9) if i != 4]
    assert torch.equal(out[others], sound[others])


@pytest.mark.parametrize("form", FORMATS)
def test_zeros_and_small_numbers(library: Library, form: str) -> None:
    run, x_NK = product(library, weights(form, 30, 100)), torch.zeros(2, 100)
    x_NK[1, 3] = 1e-42
    assert run(x_NK)[0].eq(0).all()
    assert run(x_NK).abs().max() < 1e-40


@pytest.mark.parametrize("form", ["f32", "bf16"])
def test_rows_apart_and_out_of_line(library: Library, form: str) -> None:
    """A slice of columns of a matrix that begins anywhere."""
    whole = weights(form, 20, 101)
    assert isinstance(whole, Tensor)
    memory = torch.cat([whole.new_full((1,), torch.nan), whole.flatten()])[1:].view(20, 101)
    part, x_NK = memory[3:, 5:72], tokens(3, 67)
    assert part.data_ptr() % 16, "out of line"
    out = product(library, part)(x_NK)
    check_close(out, x_NK, part, form)
    assert torch.equal(out, product(library, part.contiguous())(x_NK))


@pytest.mark.parametrize("form", FORMATS)
def test_some_rows_are_a_matrix_too(library: Library, form: str) -> None:
    weight, x_NK = weights(form, 50, 70), tokens(3, 70)
    some = weight.rows(11, 40) if isinstance(weight, QuantisedMatrix) else weight[11:40]
    assert torch.equal(product(library, some)(x_NK), product(library, weight)(x_NK)[:, 11:40])


def at_the_end_of_a_page(tensor: Tensor) -> Tensor:
    """The same numbers, behind which nothing may be read."""
    size = -(-tensor.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(begin + size), mmap.PAGESIZE, 0) == 0
    placed = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=size - tensor.nbytes)
    return placed.view(tensor.shape).copy_(tensor)


@pytest.mark.skipif(sys.platform == "win32", reason="pages are closed by mprotect")
@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_read_behind_the_last_weight(library: Library, form: str) -> None:
    """It would end the process."""
    weight, x_NK = weights(form, 21, 75), tokens(5, 75)
    if isinstance(weight, QuantisedMatrix):
        numbers, scales = at_the_end_of_a_page(weight.numbers), at_the_end_of_a_page(weight.scales)
        placed: Weight = QuantisedMatrix(numbers, scales, weight.columns, weight.format)
    else:
        placed = at_the_end_of_a_page(weight)
    assert torch.equal(product(library, placed)(x_NK), product(library, weight)(x_NK))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_bias_and_activation(library: Library, name: str) -> None:
    weight, x_NK, bias = weights("f32", 21, 30), tokens(4, 30) / 3, tokens(1, 21)[0]
    out = product(library, weight, bias=bias, activation=name)(x_NK)
    torch.testing.assert_close(out, ACTIVATIONS[name](F.linear(x_NK, dense(weight).float(), bias)))


@pytest.mark.parametrize("form", FORMATS)
def test_added_to_some_columns(library: Library, form: str) -> None:
    """Into the middle of a register, from the middle of another."""
    weight, first = weights(form, 18, 40), weights("f32", 60, 70)

    def emit(builder: Builder, x: Register) -> list[Register]:
        out = linear(builder, x, first)
        part = linear(builder, columns(x, 20), weight)
        linear(builder, columns(x, 20), weight, out=columns(out, 31), add=True)
        return [out, part]

    x_NK = tokens(19, 70)
    out, part = runner(library, 70, emit)(x_NK)
    expected = product(library, first)(x_NK)
    expected[:, 31:49] += part
    assert torch.equal(out, expected)
    check_close(part, x_NK[:, 20:60], weight, form)


@pytest.mark.parametrize("form", FORMATS)
def test_several_maps_in_one_step(library: Library, form: str) -> None:
    """As if each were alone, on any number of threads."""
    parts = [weights(form, rows, 50, rows) for rows in (33, 1, 16, 7)]
    x_NK = tokens(3, 50)

    def emit(builder: Builder, x: Register) -> Sequence[Register]:
        return linears(builder, x, [Map(part) for part in parts])

    run = runner(library, 50, emit)
    for library.threads in (1, 2, 3, 4):
        for out, part in zip(run(x_NK), parts, strict=True):
            assert torch.equal(out, product(library, part)(x_NK))


@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("form", FORMATS)
def test_gated(library: Library, form: str, name: str) -> None:
    gate, up, x_NK = weights(form, 35, 64), weights(form, 35, 64, 7), tokens(18, 64)
    bias_a, bias_b = tokens(2, 35)

    def emit(builder: Builder, x: Register) -> list[Register]:
        return [gated(builder, x, gate, up), gated(builder, x, gate, up, name, bias_a, bias_b)]

    plain, biased = runner(library, 64, emit)(x_NK)
    a, b = product(library, gate)(x_NK), product(library, up)(x_NK)
    torch.testing.assert_close(plain, F.silu(a) * b)
    torch.testing.assert_close(biased, ACTIVATIONS[name](a + bias_a) * (b + bias_b))


@pytest.mark.parametrize("form", FORMATS)
def test_one_rounding_serves_several_steps(library: Library, form: str) -> None:
    weight = weights(form, 9, 70)

    def emit(builder: Builder, x: Register) -> list[Register]:
        side = operand(builder, x, 70, FORMATS[form])
        outs = [linear(builder, side, weight), linear(builder, side, weight), linear(builder, x, weight)]
        assert len(builder.steps) == (3 if form == "f32" else 5)
        return outs

    first, second, third = runner(library, 70, emit)(tokens(4, 70))
    assert torch.equal(first, second) and torch.equal(first, third)


@pytest.mark.parametrize("rows, read, steps", [(128, 128, 3), (80, 48, 3), (70, 70, 4), (80, 66, 4)])
def test_rounds_for_the_product_that_follows(library: Library, rows: int, read: int, steps: int) -> None:
    """Without a step of its own where the zeros behind what is read are among its rows; with the bits of one."""
    library.threads = 2
    first, second = weights("bf16", rows, 96), weights("bf16", 9, read, 7)

    def emit(builder: Builder, x: Register) -> list[Register]:
        made = gated(builder, x, first, first)
        outs = [made, linear(builder, made, second)]
        assert len(builder.steps) == steps
        return outs

    run = runner(library, 96, emit)
    for count in (1, 3, 16, 33):
        made, out = run(tokens(count, 96))
        assert torch.equal(out, product(library, second)(made[:, :read].contiguous()))


def test_no_register_is_rounded_into_that_the_step_reads(library: Library) -> None:
    """What a scratch frees the step before may still read."""
    square, x_NK = weights("bf16", 64, 64), tokens(3, 64)

    def emit(builder: Builder, x: Register) -> list[Register]:
        out = builder.register(64)
        with builder.scratch():
            linear(builder, x, square, out=out)
        return [out, linear(builder, out, square)]

    library.threads = 3
    first, second = runner(library, 64, emit)(x_NK)
    assert torch.equal(second, product(library, square)(first))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_what_is_read_first_is_the_threads_own(library: Library, form: str, threads: int) -> None:
    """Beginnings of rows, in none of which two threads meet."""
    builder = Builder(library)
    gate, up = weights(form, 200, 64), weights(form, 200, 64, 7)
    gated(builder, builder.register(64), gate, up)
    _, arguments, reads = builder.steps[-1]
    assert reads is not None
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(reads)
    seen = []
    for index in range(threads):
        spans, taken = (ctypes.c_int64 * 4)(), ctypes.c_int64()
        worker = (ctypes.c_int64 * 3)(index, threads, ctypes.addressof(taken))
        function(ctypes.addressof(arguments), None, ctypes.addressof(worker), ctypes.addressof(spans))
        seen.append(list(spans))
    for place, weight in enumerate((gate, up)):
        memory = weight.numbers if isinstance(weight, QuantisedMatrix) else weight
        size = memory.stride(0) * memory.element_size()
        end = memory.data_ptr()
        for own in seen:
            at, length = own[2 * place : 2 * place + 2]
            assert at >= end and (at - memory.data_ptr()) % size == 0 and length % size == 0 < length
            end = at + length
        assert end <= memory.data_ptr() + memory.nbytes


@pytest.mark.skipif(not runnable(), reason="no kernels were built here")
@given(st.sampled_from(list(FORMATS)), st.integers(1, 40), st.integers(1, 200), st.integers(1, 20), st.data())
def test_any_shape(form: str, rows: int, width: int, count: int, data: st.DataObject) -> None:
    """Right, and the same for a token alone, on the best instructions there are."""
    from offramp.native.library import load

    run = product(load(runnable()[0]), weight := weights(form, rows, width))
    out = run(x_NK := tokens(count, width))
    check_close(out, x_NK, weight, form)
    one = data.draw(st.integers(0, count - 1))
    assert torch.equal(run(x_NK[one : one + 1])[0], out[one])
