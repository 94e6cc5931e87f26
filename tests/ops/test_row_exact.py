"""The contract of decode ops: a row's bits depend on that row alone, wherever it lies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.ops.attention_cached import attend_cached
from offramp.ops.conv import conv_tokens
from offramp.ops.norm import gated_group_norm, layer_norm, rms_norm
from offramp.ops.rope import Rope, rotate
from offramp.ops.rowwise import rowwise

DTYPES = [torch.float32, torch.float64]
PLACES = range(16)


def random(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def same_everywhere(function: Callable[[Tensor], Tensor], row: Tensor) -> None:
    """function over 16 rows gives `row` the same bits in every place, among NaN and among numbers."""
    results = []
    for place in PLACES:
        for filler in (float("nan"), 0.0, -3.7):
            rows = torch.full((16, *row.shape), filler, dtype=row.dtype)
            rows[place] = row
            results.append(function(rows)[place])
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 3, 5, 11, 17, 144, 160, 176, 3000])
@pytest.mark.parametrize("function", [F.softplus, torch.exp, F.silu])
def test_rowwise(function: Callable[[Tensor], Tensor], width: int, dtype: torch.dtype) -> None:
    same_everywhere(lambda x: rowwise(function, x), random(width, dtype=dtype))


@pytest.mark.parametrize("tokens", [1, 2, 3, 7, 16])
def test_rowwise_does_not_depend_on_the_number_of_rows(tokens: int) -> None:
    rows = random(16, 11, dtype=torch.float32)
    assert torch.equal(rowwise(F.softplus, rows[:tokens]), rowwise(F.softplus, rows)[:tokens])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [144, 160, 176])
def test_norms_and_products(width: int, dtype: torch.dtype) -> None:
    weight, matrix = random(width, dtype=dtype, seed=1), random(3 * width + 5, width, dtype=dtype, seed=2)
    row = random(width, dtype=dtype)
    same_everywhere(lambda x: rms_norm(x, weight, 1e-5), row)
    same_everywhere(lambda x: layer_norm(x, weight, weight.flip(0), 1e-5), row)
    same_everywhere(lambda x: F.linear(x, matrix), row)
    for groups in (1, 2, 8):
        same_everywhere(lambda x, groups=groups: gated_group_norm(x, x.flip(-1), weight, groups, 1e-5), row)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [32, 48])
def test_rotate(head_dim: int, dtype: torch.dtype) -> None:
    cos, sin = (part.to(dtype) for part in Rope().table(64, head_dim, torch.device("cpu")))
    row = random(3, head_dim, dtype=dtype)
    results = []
    for place in PLACES:
        first = 40 - place  # the row's position is 40 in every place
        rows = torch.full((16, 3, head_dim), float("nan"), dtype=dtype)
        rows[place] = row
        results.append(rotate(rows, cos[first : first + 16], sin[first : first + 16])[place])
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [7, 160, 480])
def test_conv_tokens(channels: int, dtype: torch.dtype) -> None:
    weight, bias = random(channels, 4, dtype=dtype), random(channels, dtype=dtype)
    inputs = random(19, channels, dtype=dtype, seed=3)
    whole = conv_tokens(inputs, weight, bias)
    for first in range(16):
        assert torch.equal(conv_tokens(inputs[first : first + 4], weight, bias)[0], whole[first])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim"), [(3, 3, 32), (5, 1, 48), (11, 11, 32), (8, 2, 64)]
)
@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("entry", [0, 9, 15, 16, 40, 63])
def test_attend_cached(
    entry: int, window: int | None, heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype
) -> None:
    """One query on entries 0..entry: every place in the chunk, any number of valid tokens, NaN behind it."""
    k, v = (random(96, kv_heads, head_dim, dtype=dtype, seed=seed) for seed in (1, 2))
    pos, query = torch.arange(96), random(heads, head_dim, dtype=dtype)
    results = []
    for place in range(min(entry, 15) + 1):
        for n in {place + 1, 16}:
            q = torch.full((16, heads, head_dim), float("nan"), dtype=dtype)
            q[place] = query
            keys, values = k.clone(), v.clone()
            keys[entry + 1 :] = values[entry + 1 :] = float("nan")
            results.append(attend_cached(q, keys, values, pos, entry - place, n, window)[place])
            results.append(attend_cached(q.nan_to_num(2.0), k, v, pos, entry - place, n, window)[place])
    assert torch.isfinite(results[0]).all()
    assert all(torch.equal(result, results[0]) for result in results)
