"""Llama and its kin as llama.cpp names and lays them out.

Its Llama rotates neighbouring pairs of a head's numbers, ours (and Hugging Face's) the first half with the second: so
the rows of queries' and keys' matrices are put into another order. Its Qwens rotate as ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import Tensor

from offramp.bench.gguf.convert import Written, refuse
from offramp.bench.gguf.file import Fact
from offramp.models.base import Model
from offramp.models.llama_like import LlamaLikeConfig

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
NAMES = {
    "norm": "attn_norm",
    "mixer.q_proj": "attn_q",
    "mixer.k_proj": "attn_k",
    "mixer.v_proj": "attn_v",
    "mixer.o_proj": "attn_output",
    "mixer.q_norm": "attn_q_norm",
    "mixer.k_norm": "attn_k_norm",
    "mlp_norm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def written(model: Model, max_len: int) -> Written:
    """max_len: tokens that will be run; a window that holds them all is none. Raises CheckpointError."""
    config = cast(LlamaLikeConfig, model.config)
    if config.window is not None and config.window < max_len:
        raise refuse(model, f"a window of {config.window} tokens")
    architecture = ARCHITECTURES[config.model_type]
    return Written(architecture, _facts(model, config), dict(_tensors(model, config, architecture)))


def _facts(model: Model, config: LlamaLikeConfig) -> dict[str, Fact]:
    if config.scaling is not None:
        raise refuse(model, "scaled positions")
    return {
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": float(config.rope_theta),
    }


def _tensors(model: Model, config: LlamaLikeConfig, architecture: str) -> Iterator[tuple[str, Tensor]]:
    heads = {"mixer.q_proj": config.heads, "mixer.k_proj": config.kv_heads}
    for i, block in enumerate(model.blocks):
        for name, tensor in block.named_parameters():
            module, _, kind = name.rpartition(".")
            paired = architecture == "llama" and module in heads
            rows = in_pairs(tensor, heads[module]) if paired else tensor
            yield f"blk.{i}.{NAMES[module]}.{kind}", rows


def in_pairs(rows: Tensor, heads: int) -> Tensor:
    """Each head's rows 0, K/2, 1, K/2 + 1, ...: what was half and half becomes pairs."""
    return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
