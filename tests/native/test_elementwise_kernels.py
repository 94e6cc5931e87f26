"""What is done to each number by itself, and learned positions.

Shapes: N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.native.emit.columns import Columns, columns
from offramp.native.emit.elementwise import add_positions, elementwise
from offramp.native.library import Library
from offramp.native.program import Builder, Register

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


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def run(library: Library, x_ND: Tensor, emit: Callable[[Builder, Register], Register | Columns]) -> Tensor:
    builder = Builder(library)
    x = builder.register(x_ND.shape[1])
    program = builder.build(x, [emit(builder, x)])
    return program.run(x_ND, [0], [len(x_ND)])[0].clone()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("width", [1, 19, 600])
def test_activations(library: Library, name: str, width: int) -> None:
    x_ND = numbers(3, width) * 4
    x_ND[1, width // 2] = torch.nan
    out = run(library, x_ND, lambda builder, x: elementwise(builder, x, width, name))
    torch.testing.assert_close(out, ACTIVATIONS[name](x_ND), equal_nan=True)


def test_a_copy_is_exact(library: Library) -> None:
    x_ND = numbers(5, 300)
    x_ND[0, 0], x_ND[4, 299] = torch.inf, torch.nan
    out = run(library, x_ND, lambda builder, x: elementwise(builder, x, 300))
    torch.testing.assert_close(out, x_ND, rtol=0, atol=0, equal_nan=True)


def test_sums_factors_and_products_of_columns(library: Library) -> None:
    x_ND = numbers(4, 60)

    def emit(builder: Builder, x: Register) -> Register:
        elementwise(builder, columns(x, 3), 17, "silu", 0.5, columns(x, 40), columns(x, 21), add=True)
        return x

    expected = x_ND.clone()
    expected[:, 21:38] += 0.5 * F.silu(x_ND[:, 3:20]) * x_ND[:, 40:57]
    torch.testing.assert_close(run(library, x_ND, emit), expected)


def test_threads_do_not_matter(library: Library) -> None:
    x_ND, outs = numbers(7, 999), []
    for library.threads in (1, 2, 3, 4):
        outs.append(run(library, x_ND, lambda builder, x: elementwise(builder, x, 999, "gelu", 3.0)))
    assert all(torch.equal(out, outs[0]) for out in outs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_positions(library: Library, dtype: torch.dtype) -> None:
    """Of two rows with two and three tokens, the second of which passes the table's end."""
    table = numbers(10, 21, seed=1).to(dtype)
    builder = Builder(library)
    x, part = builder.register(21), builder.part()
    add_positions(builder, x, table, part)
    x_ND = numbers(5, 21)
    (out,) = builder.build(x, [x]).run(x_ND, [0, 3], [2, 3], [[(0, 4, 0, 0), (0, 8, 0, 0)]])
    assert torch.equal(out, x_ND + table[[4, 5, 8, 9, 9]].float())
