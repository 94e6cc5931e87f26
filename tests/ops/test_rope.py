"""Scaled rotary positions: against transformers' frequencies, against their naive twins, and cut anywhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from offramp.models.ropeconfig import rope_from
from offramp.ops.rope import Rope, rotate, rotate_naive

ORIGINAL, LENGTH, HEAD = 16, 70, 32
CPU = torch.device("cpu")
KINDS: dict[str, dict[str, Any]] = {
    "linear": {"factor": 2.5},
    "dynamic": {"factor": 4.0},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "yarn": {"factor": 4.0},
    "yarn-whole": {"factor": 40.0, "truncate": False, "beta_fast": 5.0, "beta_slow": 0.5},
    "yarn-mscale": {"factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.7},
    "yarn-given": {"factor": 4.0, "attention_factor": 0.8},
}


def raw_config(kind: str, share: float = 1.0) -> dict[str, Any]:
    name = kind.partition("-")[0]
    rope = {"rope_type": name, "rope_theta": 500.0, "partial_rotary_factor": share} | KINDS[kind]
    if name in ("llama3", "yarn"):
        rope["original_max_position_embeddings"] = ORIGINAL
    longest = ORIGINAL if name == "dynamic" else int(ORIGINAL * KINDS[kind]["factor"])
    return {"max_position_embeddings": longest, "rope_parameters": rope}


def ours(kind: str, share: float = 1.0) -> Rope:
    return rope_from(raw_config(kind, share), HEAD)


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_frequencies_of_transformers(kind: str, share: float) -> None:
    raw = raw_config(kind, share)
    config = transformers.LlamaConfig(hidden_size=4 * HEAD, num_attention_heads=4, **raw)
    make, rope = ROPE_INIT_FUNCTIONS[raw["rope_parameters"]["rope_type"]], ours(kind, share)
    for length in (1, ORIGINAL, ORIGINAL + 1, LENGTH):
        theirs, amplitude = make(config, CPU, seq_len=length)
        size = rope.turned(HEAD)
        rates = [rope.rate_naive(size, pair, length - 1) for pair in range(size // 2)]
        torch.testing.assert_close(torch.tensor(rates), theirs, rtol=1e-5, atol=0)
        assert rope.amplitude == pytest.approx(amplitude, rel=1e-12)


@pytest.mark.parametrize("share", [1.0, 0.25])
@pytest.mark.parametrize("kind", KINDS)
def test_turned_as_naive_does_within_and_beyond_the_context(kind: str, share: float) -> None:
    rope, x = ours(kind, share), torch.randn(LENGTH, 2, HEAD, dtype=torch.float64)
    turned = rotate(x, *rope.table(LENGTH, HEAD, CPU))
    naive = rotate_naive(x, list(range(LENGTH)), rope)
    torch.testing.assert_close(turned, naive, rtol=1e-9, atol=1e-9)
    assert torch.equal(turned[..., int(HEAD * share) :], x[..., int(HEAD * share) :])


@pytest.mark.parametrize("kind", KINDS)
def test_a_position_does_not_know_the_length(kind: str) -> None:
    for long, short in zip(
        ours(kind).table(LENGTH, HEAD, CPU), ours(kind).table(ORIGINAL, HEAD, CPU), strict=True
    ):
        torch.testing.assert_close(long[:ORIGINAL], short, rtol=1e-12, atol=1e-12)


def test_dynamic_is_plain_inside_the_original_context() -> None:
    scaled, plain = ours("dynamic").table(LENGTH, HEAD, CPU), Rope(500.0).table(LENGTH, HEAD, CPU)
    torch.testing.assert_close(scaled[0][:ORIGINAL], plain[0][:ORIGINAL], rtol=1e-12, atol=1e-12)
    assert (scaled[0][ORIGINAL:] - plain[0][ORIGINAL:]).abs().amax(1).min() > 1e-3
