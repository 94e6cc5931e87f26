"""Tiny random checkpoints, as `transformers` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

VOCAB = 61

_LLAMA = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    initializer_range=0.3,
)
_MAMBA = dict(vocab_size=VOCAB, hidden_size=32, state_size=8, num_hidden_layers=2, initializer_range=0.3)
_MAMBA2 = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    num_heads=8,
    head_dim=8,
    state_size=16,
    num_hidden_layers=2,
    initializer_range=0.3,
)
_QWEN = _LLAMA | dict(num_hidden_layers=3, use_sliding_window=True, sliding_window=7, max_window_layers=1)
_GEMMA = _LLAMA | dict(head_dim=12, pad_token_id=None)
_NEOX = {key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"} | dict(hidden_size=64)
_GPT2 = dict(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3)
_BAMBA = _LLAMA | dict(
    num_hidden_layers=3, attn_layer_indices=[1], mamba_n_heads=8, mamba_d_head=8, mamba_d_state=16
)


def _scaled(**rope: Any) -> Any:
    """Rotary positions for a longer context than the model's first one."""
    return transformers.LlamaConfig(**_LLAMA, rope_parameters={"rope_theta": 500.0} | rope)


CONFIGS: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(**_LLAMA),
    "llama-tied": lambda: transformers.LlamaConfig(**_LLAMA, tie_word_embeddings=True, eos_token_id=[3, 4]),
    "llama-biases": lambda: transformers.LlamaConfig(
        **_LLAMA, attention_bias=True, mlp_bias=True, head_dim=12
    ),
    "llama-theta": lambda: transformers.LlamaConfig(
        **_LLAMA, rope_parameters={"rope_type": "default", "rope_theta": 500.0}
    ),
    "mistral-window": lambda: transformers.MistralConfig(**_LLAMA, sliding_window=7),
    "mistral": lambda: transformers.MistralConfig(**_LLAMA, sliding_window=None),
    "llama-linear": lambda: _scaled(rope_type="linear", factor=3.0),
    "llama-llama3": lambda: _scaled(
        rope_type="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=16,
    ),
    "llama-yarn": lambda: _scaled(rope_type="yarn", factor=8.0, original_max_position_embeddings=16),
    "qwen2": lambda: transformers.Qwen2Config(**_LLAMA, tie_word_embeddings=True),
    "qwen2-window": lambda: transformers.Qwen2Config(**_QWEN),
    "qwen3": lambda: transformers.Qwen3Config(**_LLAMA, head_dim=12, attention_bias=True),
    "qwen3-window": lambda: transformers.Qwen3Config(
        **_QWEN, layer_types=["sliding_attention", "full_attention", "sliding_attention"]
    ),
    "gemma": lambda: transformers.GemmaConfig(**_GEMMA),
    "gemma-untied": lambda: transformers.GemmaConfig(
        **_GEMMA, tie_word_embeddings=False, attention_bias=True
    ),
    "mamba": lambda: transformers.MambaConfig(**_MAMBA),
    "mamba-untied": lambda: transformers.MambaConfig(
        **_MAMBA,
        tie_word_embeddings=False,
        use_bias=True,
        use_conv_bias=False,
        residual_in_fp32=False,
        time_step_rank=3,
        conv_kernel=3,
    ),
    "falcon-mamba": lambda: transformers.FalconMambaConfig(
        **_MAMBA, tie_word_embeddings=False, expand=16, intermediate_size=64, mixer_rms_eps=1e-3
    ),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**_NEOX),
    "gpt_neox-sequential": lambda: transformers.GPTNeoXConfig(
        **_NEOX, use_parallel_residual=False, attention_bias=False, rotary_pct=1.0, tie_word_embeddings=True
    ),
    "gpt2": lambda: transformers.GPT2Config(**_GPT2),
    "gpt2-untied": lambda: transformers.GPT2Config(
        **_GPT2, n_inner=40, tie_word_embeddings=False, activation_function="gelu"
    ),
    "mamba2-1-group": lambda: transformers.Mamba2Config(**_MAMBA2, n_groups=1),
    "mamba2-8-groups": lambda: transformers.Mamba2Config(**_MAMBA2, n_groups=8),
    "mamba2-tied": lambda: transformers.Mamba2Config(
        **_MAMBA2,
        n_groups=2,
        tie_word_embeddings=True,
        use_bias=True,
        use_conv_bias=False,
        residual_in_fp32=False,
    ),
    "bamba": lambda: transformers.BambaConfig(**_BAMBA),
    "bamba-groups": lambda: transformers.BambaConfig(
        **_BAMBA,
        mamba_n_groups=2,
        mamba_proj_bias=True,
        attention_bias=True,
        mlp_bias=True,
        eos_token_id=[3, 4],
    ),
    "bamba-tied": lambda: transformers.BambaConfig(
        **_BAMBA, mamba_conv_bias=False, tie_word_embeddings=True, time_step_limit=(0.5, 2.0)
    ),
}


def make(name: str, folder: Path, **save: Any) -> Any:
    """Save the checkpoint and return the model that wrote it. Norms and biases are random too."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
    with torch.no_grad():
        for parameter_name, weight in model.named_parameters():
            if weight.dim() == 1 and not parameter_name.endswith(("A_log", "dt_bias")):
                weight.add_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(folder, **save)
    return model


def tokens(rows: int, length: int) -> torch.Tensor:
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(1))
