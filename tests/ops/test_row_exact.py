"""The contract of decode ops: a row's bits depend on that row alone, wherever it lies."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.ops.attention_cached import IDLE, TILE, Cache, Chunk, attend_cached
from offramp.ops.conv import conv_tokens, windows
from offramp.ops.norm import gated_group_norm, layer_norm, rms_norm
from offramp.ops.rope import Rope, rotate
from offramp.ops.rowwise import rowwise
from offramp.ops.scan import scan_read, scan_update
from offramp.ops.ssd import ssm_read, ssm_update

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
    for width in (11, 5000):  # 5000: more than a thread's share
        rows = random(16, width, dtype=torch.float32)
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
    inputs = windows(random(3, 19, channels, dtype=dtype, seed=3), 4)
    together = conv_tokens(inputs, weight, bias)
    for token in range(len(inputs)):
        assert torch.equal(conv_tokens(inputs[token, None], weight, bias)[0], together[token])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "head_dim", "groups", "state"), [(3, 48, 1, 64), (8, 16, 8, 16), (4, 7, 2, 5)]
)
def test_ssm_steps(heads: int, head_dim: int, groups: int, state: int, dtype: torch.dtype) -> None:
    """A row among others, and by itself written elsewhere."""
    h = random(33, heads, head_dim, state, dtype=dtype)
    xdt, decay = random(33, heads, head_dim, dtype=dtype, seed=1), random(33, heads, dtype=dtype, seed=2)
    B, C = (random(33, groups, state, dtype=dtype, seed=seed) for seed in (3, 4))
    h[5], xdt[7] = float("nan"), float("inf")
    together = h.clone()
    ssm_update(together, together, xdt, decay, B)
    read = ssm_read(together, C)
    for row in range(33):
        one = slice(row, row + 1)
        after = torch.empty_like(h[one])
        ssm_update(h[one], after, xdt[one], decay[one], B[one])
        assert same_bits(after, together[one]) and same_bits(ssm_read(after, C[one]), read[one])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "state"), [(160, 16), (69, 7), (1100, 32)])
def test_scan_steps(channels: int, state: int, dtype: torch.dtype) -> None:
    h, A = random(33, channels, state, dtype=dtype), -random(channels, state, dtype=dtype, seed=1).exp()
    dt, dtu = (random(33, channels, dtype=dtype, seed=seed).exp() for seed in (2, 3))
    B, C = (random(33, state, dtype=dtype, seed=seed) for seed in (4, 5))
    h[5], dtu[7] = float("nan"), float("inf")
    together = h.clone()
    scan_update(together, together, A, dt, dtu, B)
    read = scan_read(together, C)
    for row in range(33):
        one = slice(row, row + 1)
        after = torch.empty_like(h[one])
        scan_update(h[one], after, A, dt[one], dtu[one], B[one])
        assert same_bits(after, together[one]) and same_bits(scan_read(after, C[one]), read[one])


def same_bits(ours: Tensor, theirs: Tensor) -> bool:
    """Equal where they are numbers, and NaN in the same places."""
    return torch.equal(ours.isnan(), theirs.isnan()) and torch.equal(ours.nan_to_num(), theirs.nan_to_num())


SLOTS, LENGTH = 12, 3 * TILE


def random_chunks(rng: random_module.Random, most: int) -> list[Chunk]:
    """Rows in slots far and near, with few entries and many, of which some are in another row's last tile."""
    chunks, slot = [], rng.randint(0, 3)
    for _ in range(rng.randint(1, 8)):
        n = rng.randint(1, most)
        place = rng.randint(0, LENGTH - n)
        chunks.append(Chunk(slot, n, place, place))
        slot += rng.choice([1, 1, 2, IDLE, IDLE + 1, IDLE + 2])
        if slot >= SLOTS:
            break
    return chunks


def forgotten(cache: Cache, chunks: list[Chunk]) -> Cache:
    """NaN in every entry that no query of these chunks sees."""
    k, v = torch.full_like(cache.k, float("nan")), torch.full_like(cache.v, float("nan"))
    for slot, n, place, _ in chunks:
        k[slot, :, :, : place + n] = cache.k[slot, :, :, : place + n]
        v[slot, :, : place + n] = cache.v[slot, :, : place + n]
    return Cache(k, v, cache.pos)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim"), [(3, 3, 32), (5, 1, 48), (11, 11, 32), (8, 2, 64), (4, 2, 4)]
)
@pytest.mark.parametrize("window", [None, 7, 200])
def test_attend_cached(
    window: int | None, heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype
) -> None:
    """A query alone, among nothing but NaN, has the bits that it has in company, among numbers and among NaN."""
    rng = random_module.Random(heads)
    k = random(SLOTS, kv_heads, head_dim, LENGTH, dtype=dtype, seed=1)
    v = random(SLOTS, kv_heads, LENGTH, head_dim, dtype=dtype, seed=2)
    cache = Cache(k, v, torch.arange(LENGTH).expand(SLOTS, -1))
    for most in (1, 2, 16):
        for trial in range(4):
            chunks = random_chunks(rng, most)
            q = random(sum(chunk.n for chunk in chunks), heads, head_dim, dtype=dtype, seed=trial)
            together = attend_cached(q, cache, chunks, window)
            assert together.isfinite().all()
            assert torch.equal(attend_cached(q, forgotten(cache, chunks), chunks, window), together)
            single = [Chunk(c.slot, 1, c.place + t, c.position + t) for c in chunks for t in range(c.n)]
            for i in rng.sample(range(len(q)), min(4, len(q))):
                alone = attend_cached(q[i : i + 1], forgotten(cache, single[i : i + 1]), [single[i]], window)
                assert torch.equal(alone[0], together[i])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_long_neighbour_does_not_change_the_order_of_a_sum(dtype: torch.dtype) -> None:
    k, v = (random(2, 2, *shape, dtype=dtype) for shape in ((32, 16 * TILE), (16 * TILE, 32)))
    cache = Cache(k, v, torch.arange(16 * TILE).expand(2, -1))
    chunks, q = (
        [Chunk(0, 1, 499, 499), Chunk(1, 1, 16 * TILE - 1, 16 * TILE - 1)],
        random(2, 2, 32, dtype=dtype),
    )
    together = attend_cached(q, cache, chunks, None)
    for i in range(2):
        assert torch.equal(attend_cached(q[i : i + 1], cache, chunks[i : i + 1], None)[0], together[i])


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_not_finite_reaches_those_who_see_it_alone(poison: float) -> None:
    """A value in the middle of a chunk: the queries before it and the other row have their bits, those after are NaN
    or infinite."""
    k, v = (random(2, 2, *shape, dtype=torch.float32) for shape in ((16, TILE), (TILE, 16)))
    chunks, q = [Chunk(0, 6, 40, 40), Chunk(1, 6, 90, 90)], random(12, 4, 16, dtype=torch.float32)
    cache = Cache(k, v, torch.arange(TILE).expand(2, -1))
    healthy = attend_cached(q, cache, chunks, None)
    v[0, :, 43] = poison
    sick = attend_cached(q, cache, chunks, None)
    seeing = torch.arange(12).ge(3) & torch.arange(12).lt(6)
    assert torch.equal(sick[~seeing], healthy[~seeing])
    assert not sick[seeing].isfinite().any()
