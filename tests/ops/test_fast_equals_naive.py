"""Invariant 1: every fast op equals its naive twin, in outputs, final state and gradients (float64)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from offramp.ops.attention import attend, attend_cell, attend_naive
from offramp.ops.attention_cached import (
    TILE,
    Cache,
    Chunk,
    attend_cached,
    attend_cached_naive,
    attend_one,
)
from offramp.ops.conv import causal_conv, causal_conv_naive, conv_cell, conv_tokens, next_window, windows
from offramp.ops.norm import (
    CentredRMSNorm,
    gated_group_norm,
    gated_group_norm_naive,
    layer_norm,
    layer_norm_naive,
    rms_norm,
    rms_norm_naive,
)
from offramp.ops.rope import Rope, rotate, rotate_naive
from offramp.ops.scan import scan_read, scan_update, selective_scan, selective_scan_naive
from offramp.ops.ssd import ssd, ssd_naive, ssm_read, ssm_update


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


def same(fast: Callable[..., object], naive: Callable[..., object], inputs: Sequence[Tensor]) -> None:
    """Outputs and the gradients of all of them with respect to all inputs."""
    results = []
    for function in (fast, naive):
        given = function(*inputs)
        outputs = list(given) if isinstance(given, tuple) else [given]
        loss = sum((output * random(*output.shape, seed=7)).sum() for output in outputs)
        results.append(outputs + list(torch.autograd.grad(loss, inputs)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_rms_norm() -> None:
    same(
        lambda x, w: rms_norm(x, w, 1e-5),
        lambda x, w: rms_norm_naive(x, w, 1e-5),
        [random(3, 24), random(24)],
    )


def test_rms_norm_of_bfloat16_is_computed_in_float32() -> None:
    x, weight = (part.detach().bfloat16() for part in (random(50, 96), random(96)))
    expected = torch.nn.functional.rms_norm(x.float(), weight.shape, eps=1e-5).bfloat16() * weight
    assert torch.equal(rms_norm(x, weight, 1e-5), expected)


def test_centred_rms_norm() -> None:
    norm = CentredRMSNorm(24, 1e-5).double()
    norm.weight.data.copy_(random(24).detach())
    x = random(3, 24)
    torch.testing.assert_close(norm(x), rms_norm_naive(x, 1 + norm.weight, 1e-5), rtol=1e-9, atol=1e-9)


def test_layer_norm() -> None:
    same(
        lambda x, w, b: layer_norm(x, w, b, 1e-5),
        lambda x, w, b: layer_norm_naive(x, w, b, 1e-5),
        [random(3, 24), random(24), random(24, seed=1)],
    )


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_gated_group_norm(groups: int) -> None:
    inputs = [random(2, 5, 32), random(2, 5, 32, seed=1), random(32)]
    same(
        lambda y, z, w: gated_group_norm(y, z, w, groups, 1e-5),
        lambda y, z, w: gated_group_norm_naive(y, z, w, groups, 1e-5),
        inputs,
    )


def test_rotate() -> None:
    cos, sin = Rope().table(40, 12, torch.device("cpu"))
    same(
        lambda x: rotate(x, cos[7:13], sin[7:13]),
        lambda x: rotate_naive(x, list(range(7, 13)), Rope()),
        [random(6, 3, 12)],
    )


@pytest.mark.parametrize("window", [None, 1, 5, 40])
@pytest.mark.parametrize("kv_heads", [1, 3, 6])
def test_attend(kv_heads: int, window: int | None) -> None:
    inputs = [random(2, 17, 6, 8), random(2, 17, kv_heads, 8, seed=1), random(2, 17, kv_heads, 8, seed=2)]
    same(lambda q, k, v: attend(q, k, v, window), lambda q, k, v: attend_naive(q, k, v, window), inputs)


@pytest.mark.parametrize("window", [None, 1, 5, 40])
@pytest.mark.parametrize("kv_heads", [1, 3, 6])
@pytest.mark.parametrize("tokens", [1, 4, 17])
def test_attend_cell_is_the_end_of_the_whole(tokens: int, kv_heads: int, window: int | None) -> None:
    """The cell's queries alone, over keys and values as memory holds them: keys turned."""
    q, k, v = (random(17, heads, 8, seed=heads).detach() for heads in (6, kv_heads, kv_heads))
    expected = attend_naive(q[None], k[None], v[None], window)[0, -tokens:]
    turned_LGK, pos_L = k.permute(1, 2, 0).contiguous().permute(2, 0, 1), torch.arange(17)
    found = attend_cell(q[-tokens:], turned_LGK, v, pos_L[-tokens:], pos_L, window)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@st.composite
def cached_calls(draw: st.DrawFn) -> tuple[Tensor, list[Chunk]]:
    """Positions of 8 slots, where skipped tokens leave gaps, and chunks whose tokens stand behind each other."""
    pos_SL, chunks = torch.zeros(8, 2 * TILE, dtype=torch.long), []
    for slot in sorted(draw(st.sets(st.integers(0, 7), min_size=1, max_size=4))):
        n = draw(st.integers(1, 16))
        place = draw(st.integers(0, 2 * TILE - n))
        steps_L = torch.ones(2 * TILE, dtype=torch.long)
        for entry in draw(st.lists(st.integers(0, place), max_size=4)):
            steps_L[entry] = draw(st.integers(1, 9))
        pos_SL[slot] = steps_L.cumsum(0) - 1
        chunks.append(Chunk(slot, n, place, int(pos_SL[slot, place])))
    return pos_SL, chunks


@settings(max_examples=40, deadline=None)
@given(
    call=cached_calls(),
    window=st.sampled_from([None, 1, 6, 40, 150]),
    heads=st.sampled_from([(4, 4), (4, 2), (5, 1), (1, 1)]),
)
def test_attend_cached(call: tuple[Tensor, list[Chunk]], window: int | None, heads: tuple[int, int]) -> None:
    pos_SL, chunks = call
    k, v = (
        random(8, heads[1], *shape, seed=seed).detach()
        for seed, shape in enumerate(((8, 2 * TILE), (2 * TILE, 8)))
    )
    cache = Cache(k, v, pos_SL)
    q = random(sum(chunk.n for chunk in chunks), heads[0], 8).detach()
    expected = attend_cached_naive(q, cache, chunks, window)
    torch.testing.assert_close(attend_cached(q, cache, chunks, window), expected, rtol=1e-10, atol=1e-10)
    one = attend_one(q[0], cache, chunks[0], window)
    torch.testing.assert_close(one, expected[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fast", [causal_conv, conv_cell])
@pytest.mark.parametrize("with_bias", [False, True])
def test_causal_conv(with_bias: bool, fast: Callable[..., Tensor]) -> None:
    extra = [random(6)] * with_bias + [random(2, 3, 6, seed=3)] * (fast is conv_cell)

    def call(conv: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def called(x: Tensor, weight: Tensor, *rest: Tensor) -> Tensor:
            return conv(x, weight, rest[0] if with_bias else None, *rest[with_bias:])

        return called

    same(call(fast), call(causal_conv_naive), [random(2, 11, 6), random(6, 4), *extra])


@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize("tokens", [1, 2, 3, 9])
def test_conv_tokens_and_window_continue_the_whole(tokens: int, taps: int) -> None:
    x, weight, bias = random(2, 20, 6), random(6, taps), random(6)
    whole = causal_conv(x, weight, bias)
    before = next_window(x.new_zeros(2, taps - 1, 6), x[:, :8])
    tapes = torch.cat((before, x[:, 8:]), dim=1)
    for row in range(2):
        first = row * tapes.shape[1]
        chunk = conv_tokens(windows(tapes, taps)[first : first + tokens], weight, bias)
        torch.testing.assert_close(chunk, whole[row, 8 : 8 + tokens], rtol=1e-12, atol=1e-12)


def ssd_inputs(tokens: int, heads: int, groups: int) -> list[Tensor]:
    dt = torch.nn.functional.softplus(random(2, tokens, heads)).detach().requires_grad_()
    A = (-random(heads).exp()).detach().requires_grad_()
    shared = [random(2, tokens, groups, 5, seed=seed) for seed in (1, 2)]
    return [
        random(2, tokens, heads, 3),
        dt,
        A,
        *shared,
        random(heads, seed=4),
        random(2, heads, 3, 5, seed=5),
    ]


@pytest.mark.parametrize("chunk", [1, 4, 16])
@pytest.mark.parametrize(("heads", "groups"), [(3, 1), (4, 2), (8, 8)])
@pytest.mark.parametrize("tokens", [1, 13, 16])
def test_ssd(tokens: int, heads: int, groups: int, chunk: int) -> None:
    def fast(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        return ssd(*inputs[:6], chunk, inputs[6])

    same(fast, ssd_naive, ssd_inputs(tokens, heads, groups))


def test_ssd_starts_from_zeros() -> None:
    *inputs, initial = ssd_inputs(9, 4, 2)
    for ours, theirs in zip(ssd(*inputs, 4), ssd_naive(*inputs, torch.zeros_like(initial)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_ssd_survives_steps_that_forget_everything() -> None:
    x, dt, A, B, C, D, initial = (part.detach() for part in ssd_inputs(64, 3, 1))
    y, final = ssd(*(part.float() for part in (x, dt * 1e4, A, B, C, D)), 16, initial.float())
    assert torch.isfinite(y).all() and torch.isfinite(final).all()


@pytest.mark.parametrize("chunk", [16, 64])
def test_ssd_of_faint_decays(chunk: int) -> None:
    """Decays too small for a float's full precision, within a chunk and over it, are those of the recurrence."""
    x, dt, A, B, C, D, initial = (part.detach().float() for part in ssd_inputs(128, 3, 1))
    inputs = (x, dt * 2 + 1, A, B, C, D)
    for ours, theirs in zip(ssd(*inputs, chunk, initial), ssd_naive(*inputs, initial), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_ssm_update_and_read_are_the_recurrence() -> None:
    """Two rows at once; the first token's state goes elsewhere, the others' stays in place."""
    x, dt, A, B, C, D, initial = (part.detach() for part in ssd_inputs(6, 4, 2))
    y, final = ssd_naive(x, dt, A, B, C, D, initial)
    before, after = initial.clone(), torch.full_like(initial, float("nan"))
    for t in range(6):
        ssm_update(before, after, x[:, t] * dt[:, t, :, None], torch.exp(dt[:, t] * A), B[:, t])
        torch.testing.assert_close(ssm_read(after, C[:, t]) + D[:, None] * x[:, t], y[:, t])
        before = after
    torch.testing.assert_close(after, final)


def scan_inputs(tokens: int, channels: int = 6) -> list[Tensor]:
    dt = torch.nn.functional.softplus(random(2, tokens, channels)).detach().requires_grad_()
    A = (-random(channels, 5).exp()).detach().requires_grad_()
    shared = [random(2, tokens, 5, seed=seed) for seed in (1, 2)]
    return [
        random(2, tokens, channels, seed=3),
        dt,
        A,
        *shared,
        random(channels, seed=4),
        random(2, channels, 5, seed=5),
    ]


@pytest.mark.parametrize("chunk", [1, 4, 16])
@pytest.mark.parametrize("tokens", [1, 13, 16])
def test_selective_scan(tokens: int, chunk: int) -> None:
    def fast(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        return selective_scan(*inputs[:6], chunk, inputs[6])

    same(fast, selective_scan_naive, scan_inputs(tokens))


def test_selective_scan_without_gradients_starts_from_zeros() -> None:
    *inputs, initial = (part.detach() for part in scan_inputs(9))
    with torch.no_grad():
        found = selective_scan(*inputs, 4)
    for ours, theirs in zip(found, selective_scan_naive(*inputs, torch.zeros_like(initial)), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_selective_scan_without_gradients_may_be_a_kernel_s(dtype: torch.dtype) -> None:
    """With gradients PyTorch scans; of bfloat16 models u, B and C are, and dt is float32."""
    u, dt, A, B, C, D, initial = (part.detach().float() for part in scan_inputs(70))
    inputs = (u.to(dtype), dt, A, B.to(dtype), C.to(dtype), D, 16, initial)
    with torch.no_grad():
        found = selective_scan(*inputs)
    dt.requires_grad_()
    expected = selective_scan(*inputs)
    assert expected[0].requires_grad and not found[0].requires_grad
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-4, atol=1e-4)


def test_selective_scan_survives_steps_that_forget_everything() -> None:
    u, dt, A, B, C, D, initial = (part.detach().float() for part in scan_inputs(64))
    y, final = selective_scan(u, dt * 1e4, A, B, C, D, 16, initial)
    assert torch.isfinite(y).all() and torch.isfinite(final).all()


def test_selective_scan_keeps_only_the_states_between_chunks_for_gradients() -> None:
    """Of what a long sequence computes, autograd holds no tensor of the size [T, E, N], nor many of a chunk's."""
    held = 0

    def count(kept: Tensor) -> Tensor:
        nonlocal held
        held += kept.numel()
        return kept

    inputs = scan_inputs(256, channels=32)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda kept: kept):
        y, _ = selective_scan(*inputs[:6], 16, inputs[6])
    states = 2 * 256 * 32 * 5
    assert held < states  # the naive form holds several times as much
    y.sum().backward()


def test_scan_update_and_read_are_the_recurrence() -> None:
    u, dt, A, B, C, D, initial = (part.detach() for part in scan_inputs(6))
    y, final = selective_scan_naive(u, dt, A, B, C, D, initial)
    before, after = initial.clone(), torch.full_like(initial, float("nan"))
    for t in range(6):
        scan_update(before, after, A, dt[:, t], dt[:, t] * u[:, t], B[:, t])
        torch.testing.assert_close(scan_read(after, C[:, t]) + D * u[:, t], y[:, t])
        before = after
    torch.testing.assert_close(after, final)
