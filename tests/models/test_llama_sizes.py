"""Configurations of published models build, and have as many parameters as their publishers count."""

from __future__ import annotations

from typing import Any

import pytest

from offramp.models.families import family_for
from offramp.models.shapes import shapes_only


def parameters(**raw: Any) -> int:
    family = family_for(raw["model_type"])
    with shapes_only():
        model = family.build(family.config_from(raw))
    return sum(weight.numel() for weight in model.parameters())


def decoder(
    model_type: str, width: int, blocks: int, heads: int, kv_heads: int, inner: int, vocab: int
) -> Any:
    return dict(
        model_type=model_type,
        hidden_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=inner,
        vocab_size=vocab,
    )


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
PUBLISHED = {
    "Llama-3.2-1B": (
        decoder("llama", 2048, 16, 32, 8, 8192, 128256)
        | dict(head_dim=64, tie_word_embeddings=True, rope_theta=500000.0, rope_scaling=LLAMA3)
        | dict(max_position_embeddings=131072),
        1_235_814_400,
    ),
    "Mistral-7B-v0.3": (decoder("mistral", 4096, 32, 32, 8, 14336, 32768), 7_248_023_552),
    "Qwen2.5-0.5B": (
        decoder("qwen2", 896, 24, 14, 2, 4864, 151936) | dict(tie_word_embeddings=True),
        494_032_768,
    ),
    "Qwen3-0.6B": (
        decoder("qwen3", 1024, 28, 16, 8, 3072, 151936) | dict(head_dim=128, tie_word_embeddings=True),
        596_049_920,
    ),
    "gemma-2b": (decoder("gemma", 2048, 18, 8, 1, 16384, 256000), 2_506_172_416),
    "gpt2": (dict(model_type="gpt2", vocab_size=50257), 124_439_808),
    "pythia-160m": (decoder("gpt_neox", 768, 12, 12, 12, 3072, 50304), 162_322_944),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters(name: str) -> None:
    raw, count = PUBLISHED[name]
    assert parameters(**raw) == count
