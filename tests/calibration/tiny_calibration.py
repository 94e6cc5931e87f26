"""A tiny random model whose exits are often right, and items to ask it, for tests of calibration."""

from __future__ import annotations

from pathlib import Path

import torch

from offramp.calibration.items import Item
from offramp.engine.load import Checkpoint
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import ExitSet, build_exits
from offramp.exits.store import ExitsInfo, save_exits
from offramp.models.base import Model
from offramp.models.families import family_for
from offramp.models.fingerprint import fingerprint
from offramp.models.initial import init_weights

VOCAB, BLOCKS, CONTEXT = 31, 4, 64


def tiny_checkpoint(folder: Path, gate: str = "linear", bridge: str = "none", seed: int = 0) -> Checkpoint:
    """A random Llama of four blocks, its exits after one and two of them, saved in `folder`; no tokenizer."""
    raw = {
        "model_type": "llama",
        "vocab_size": VOCAB,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": CONTEXT,
        "eos_token_id": None,
    }
    family = family_for("llama")
    model = init_weights(family.build(family.config_from(raw)), seed).eval()
    _sharpen(model, seed)
    exits = build_exits(ExitConfig(gate, bridge, (1, 2), 16, 1e-5, bottleneck=8), BLOCKS, seed).eval()
    _sharpen(exits, seed)
    info = ExitsInfo("llama", fingerprint(model), "exact")
    save_exits(exits, info, folder / "exits")
    return Checkpoint(folder, model, exits, info, None, folder / "exits")


def _sharpen(module: Model | ExitSet, seed: int) -> None:
    """Larger weights: logits, and what gates say, differ from token to token."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn_like(weight) * weight.shape[-1] ** -0.5 * 1.5)


def items(count: int, seed: int = 0, answers: bool = False) -> list[Item]:
    """Random prompts of 4 to 8 tokens."""
    torch.manual_seed(seed)
    made = []
    for i in range(count):
        ids = tuple(torch.randint(1, VOCAB, (16,)).tolist())
        length = 4 + i % 5
        made.append(Item(f"{seed}-{i}", ids[:length], ids, ("answer",) if answers else ()))
    return made


def parts(calibrate: int = 10) -> dict[str, list[Item]]:
    return {"tune": items(6, 1), "calibrate": items(calibrate, 2), "test": items(4, 3)}
