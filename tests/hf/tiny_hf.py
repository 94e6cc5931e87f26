"""Tiny random models of transformers, a tokenizer of single characters, and random exits for the models."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import ExitSet, build_exits

VOCAB, WIDTH, BLOCKS, EOS, PAD, CONTEXT = 61, 32, 4, 2, 1, 96

_COMMON = dict(
    vocab_size=VOCAB,
    hidden_size=WIDTH,
    num_hidden_layers=BLOCKS,
    initializer_range=0.3,
    bos_token_id=0,
    eos_token_id=EOS,
    pad_token_id=PAD,
)
CONFIGS: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(
        **_COMMON,
        intermediate_size=48,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
    ),
    "mamba2": lambda: transformers.Mamba2Config(
        **_COMMON, num_heads=8, head_dim=8, state_size=16, n_groups=2
    ),
}


def fresh(name: str) -> Any:
    """Deep blocks change little, so that some drafts are accepted and some are not."""
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            if any(f"layers.{i}." in weight_name for i in (2, 3)) and "proj.weight" in weight_name:
                weight.mul_(0.4)
    return model


@cache
def model(name: str) -> Any:
    """The same, made once. Only to be read."""
    return fresh(name)


def exits(gate: str = "mamba", gain: float = 3.0) -> ExitSet:
    """Random gates after blocks 1 and 2 of any of the models."""
    made = build_exits(ExitConfig(gate, "none", (1, 2), WIDTH, 1e-5, bottleneck=8), BLOCKS, seed=1)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name.endswith("out.weight"):
                weight.mul_(gain)
    return made.eval()


@cache
def tokenizer() -> Any:
    """Ids 0, 1, 2 are special; the others are one character each, blank and line break among them."""
    letters = " \nabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,!?"
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2} | {c: i + 3 for i, c in enumerate(letters[: VOCAB - 3])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.decoder = decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>", padding_side="left"
    )


def prompts(rows: int = 1, length: int = 5) -> torch.Tensor:
    return torch.randint(3, VOCAB, (rows, length), generator=torch.Generator().manual_seed(7))
