"""The oracle's models are the published architectures: token by token against `transformers` in float64.

It computes norms, softmax and states in float32 even then, so equality is up to a few float32 roundings.
"""

from typing import Any

import pytest
import torch

from .from_weights import llama_from_weights, mamba2_from_weights, mamba_from_weights
from .oracle import teacher_force
from .request import Request

transformers = pytest.importorskip("transformers")

SIZES = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 3, "bos_token_id": 1, "eos_token_id": 2}
SIZES |= {"pad_token_id": 0}
LLAMA = {
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
MAMBA2 = {"num_heads": 8, "head_dim": 8, "state_size": 6, "chunk_size": 4}
TOKENS = [5, 17, 3, 60, 8, 8, 41, 22, 9, 30, 4, 55, 13, 27, 6, 44, 1, 19]

CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "llama": ("Llama", LLAMA, llama_from_weights),
    "llama tied": ("Llama", LLAMA | {"tie_word_embeddings": True, "head_dim": 16}, llama_from_weights),
    "mistral": ("Mistral", LLAMA | {"sliding_window": 5, "head_dim": 8}, llama_from_weights),
    "qwen2": ("Qwen2", LLAMA, llama_from_weights),
    "qwen3": ("Qwen3", LLAMA | {"head_dim": 8}, llama_from_weights),
    "mamba": ("Mamba", {"state_size": 6, "use_associative_scan": False}, mamba_from_weights),
    "falcon mamba": ("FalconMamba", {"state_size": 6, "mixer_rms_eps": 1e-3}, mamba_from_weights),
    "mamba2": ("Mamba2", MAMBA2 | {"n_groups": 1}, mamba2_from_weights),
    "mamba2 groups": ("Mamba2", MAMBA2 | {"n_groups": 2, "tie_word_embeddings": True}, mamba2_from_weights),
    "mamba2 limit": (
        "Mamba2",
        MAMBA2 | {"n_groups": 4, "time_step_limit": (0.01, 0.05)},
        mamba2_from_weights,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_same_logits(name: str) -> None:
    family, sizes, from_weights = CASES[name]
    config = getattr(transformers, f"{family}Config")(**SIZES, **sizes)
    theirs = _random(getattr(transformers, f"{family}ForCausalLM")(config))
    with torch.no_grad():
        expected_TV = theirs(input_ids=torch.tensor([TOKENS]), use_cache=False).logits[0].double()
    weights = dict(theirs.state_dict())
    if config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    model = from_weights(config.to_dict(), weights)
    # The first two prompt cells, the second one short, then one token after another.
    trace = teacher_force(model, Request(prompt=TOKENS[:6]), TOKENS[6:])
    actual_TV = torch.stack(trace.logits)
    assert _largest_error(actual_TV, expected_TV[[3, *range(5, len(TOKENS))]]) < 2e-5
    assert from_weights(config, weights).embed.dtype == torch.float64


def _random(model: Any) -> Any:
    """No parameter at its default: ones and zeros would hide what is left out."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.double().eval()


def _largest_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return ((actual - expected).abs().max() / expected.abs().max()).item()
