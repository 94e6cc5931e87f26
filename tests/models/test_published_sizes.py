"""Models of published sizes build, as shapes alone, and have as many parameters as those.

Sizes and counts are written down as they are known: no repository was read where this was made. The Mambas' counts
are arithmetic on the sizes too, and all are what `transformers` counts for the same config (the slow test). A tied head
is not counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from offramp.models.base import Model
from offramp.models.families import family_for
from offramp.models.naming import stored
from offramp.models.shapes import shapes_only


def mamba(width: int, blocks: int, rank: int) -> dict[str, Any]:
    return dict(
        model_type="mamba",
        vocab_size=50280,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=blocks,
        time_step_rank=rank,
        state_size=16,
    )


def mamba2(width: int, blocks: int) -> dict[str, Any]:
    """The vocabulary is 50277, padded to a multiple of 16 by the original code."""
    return dict(
        model_type="mamba2",
        vocab_size=50288,
        hidden_size=width,
        num_hidden_layers=blocks,
        num_heads=2 * width // 64,
        head_dim=64,
        state_size=128,
        n_groups=1,
        tie_word_embeddings=True,
    )


FALCON: dict[str, Any] = dict(
    model_type="falcon_mamba",
    vocab_size=65024,
    hidden_size=4096,
    intermediate_size=8192,
    expand=16,
    num_hidden_layers=64,
    time_step_rank=256,
    state_size=16,
    tie_word_embeddings=False,
)
CODESTRAL: dict[str, Any] = dict(
    model_type="mamba2",
    vocab_size=32768,
    hidden_size=4096,
    num_hidden_layers=64,
    num_heads=128,
    head_dim=64,
    state_size=128,
    n_groups=8,
    tie_word_embeddings=False,
)

MAMBAS: dict[str, tuple[dict[str, Any], int]] = {
    "state-spaces/mamba-130m-hf": (mamba(768, 24, 48), 129_135_360),
    "state-spaces/mamba-370m-hf": (mamba(1024, 48, 64), 371_516_416),
    "state-spaces/mamba-790m-hf": (mamba(1536, 48, 96), 793_204_224),
    "state-spaces/mamba-1.4b-hf": (mamba(2048, 48, 128), 1_372_178_432),
    "state-spaces/mamba-2.8b-hf": (mamba(2560, 64, 160), 2_768_345_600),
    "tiiuae/falcon-mamba-7b": (FALCON, 7_272_665_088),
    "state-spaces/mamba2-130m": (mamba2(768, 24), 128_989_632),
    "state-spaces/mamba2-370m": (mamba2(1024, 48), 368_346_624),
    "state-spaces/mamba2-780m": (mamba2(1536, 48), 780_161_280),
    "state-spaces/mamba2-1.3b": (mamba2(2048, 48), 1_343_757_312),
    "state-spaces/mamba2-2.7b": (mamba2(2560, 64), 2_702_599_680),
    "mistralai/Mamba-Codestral-7B-v0.1": (CODESTRAL, 7_285_403_648),
}


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
TRANSFORMERS: dict[str, tuple[dict[str, Any], int]] = {
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

PUBLISHED = MAMBAS | TRANSFORMERS


def shapes_of(raw: dict[str, Any]) -> Model:
    family = family_for(raw["model_type"])
    with shapes_only():
        return family.build(family.config_from(raw))


def by_hand(raw: dict[str, Any]) -> int:
    """The same from the papers' shapes: of a norm, the projections, the convolution and the state space."""
    width, vocab, N = raw["hidden_size"], raw["vocab_size"], raw["state_size"]
    inner = 2 * width
    if raw["model_type"] == "mamba2":
        convolved = inner + 2 * raw["n_groups"] * N
        heads = raw["num_heads"]
        mixer = width * (inner + convolved + heads) + 5 * convolved + 3 * heads + inner + inner * width
    else:
        rank = raw["time_step_rank"]
        space = inner * (rank + 2 * N) + (rank + 1) * inner + N * inner + inner
        mixer = width * 2 * inner + 5 * inner + space + inner * width
    embeddings = vocab * width * (1 if raw.get("tie_word_embeddings", True) else 2)
    return raw["num_hidden_layers"] * (width + mixer) + embeddings + width


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters(name: str) -> None:
    raw, count = PUBLISHED[name]
    model = shapes_of(raw)
    assert sum(weight.numel() for weight in model.parameters()) == count
    assert all(weight.is_meta for weight in model.parameters())


@pytest.mark.parametrize("name", MAMBAS)
def test_parameters_by_hand(name: str) -> None:
    raw, count = MAMBAS[name]
    assert by_hand(raw) == count


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_transformers_counts_the_same(name: str) -> None:
    """And names each tensor, and shapes it, as we do, but for the head: in memory theirs is always lm_head."""
    raw, count = PUBLISHED[name]
    with torch.device("meta"):
        theirs = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**raw))
    assert sum(weight.numel() for weight in theirs.parameters()) == count
    family = family_for(raw["model_type"])
    naming = {"head.weight": "lm_head.weight"}
    ours = stored(shapes_of(raw), family, lambda name: naming.get(name, family.weight_name(name)))
    assert shapes(ours) == shapes(dict(theirs.named_parameters()))


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
