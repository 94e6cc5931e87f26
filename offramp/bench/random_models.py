"""Models of random weights at sizes that people run: what they say is noise, what they cost is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from offramp.errors import UnknownName
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import build_exits
from offramp.exits.store import ExitsInfo, save_exits
from offramp.models.base import Model
from offramp.models.checkpoint import fingerprint, save_model
from offramp.models.families import family_for
from offramp.models.initial import init_weights
from offramp.registry import unknown

_LLAMA = dict(
    model_type="llama", vocab_size=32000, max_position_embeddings=4096, num_key_value_heads=4, head_dim=64
)
_MAMBA = dict(model_type="mamba", vocab_size=50280, state_size=16)
_MAMBA2 = dict(model_type="mamba2", vocab_size=50280, state_size=128, head_dim=64, n_groups=1)
_TIED = dict(tie_word_embeddings=True)
_SMALL, _LARGE = dict(hidden_size=768), dict(hidden_size=2048)

SHAPES: dict[str, dict[str, Any]] = {
    "llama-100m": _LLAMA
    | _TIED
    | _SMALL
    | dict(num_hidden_layers=12, num_attention_heads=12, intermediate_size=2048),
    "mamba-100m": _MAMBA | _TIED | _SMALL | dict(num_hidden_layers=24),
    "mamba2-100m": _MAMBA2 | _TIED | _SMALL | dict(num_hidden_layers=24, num_heads=24),
    "llama-1b": _LLAMA | _LARGE | dict(num_hidden_layers=22, num_attention_heads=32, intermediate_size=5632),
    "mamba-1b": _MAMBA | _TIED | _LARGE | dict(num_hidden_layers=48),
    "mamba2-1b": _MAMBA2 | _TIED | _LARGE | dict(num_hidden_layers=48, num_heads=64),
}
"""By name, what config.json says: TinyLlama's shape and a smaller one like it, mamba-130m's, mamba-1.4b's and their
Mamba-2 kin."""
BOTTLENECK = 64


def write_random(shape: str, folder: Path, dtype: torch.dtype, gate: str, seed: int = 0) -> None:
    """A checkpoint of that shape, with one untrained exit after a quarter of the blocks in its `exits/`.

    Raises UnknownName for a shape or a gate that does not exist.
    """
    if shape not in SHAPES:
        raise UnknownName(unknown("shape", shape, SHAPES))
    raw = SHAPES[shape]
    family = family_for(raw["model_type"])
    model = init_weights(family.build(family.config_from(raw)), seed).to(dtype)
    save_model(model, folder)
    _write_exits(model, folder / "exits" / gate, gate)


def _write_exits(model: Model, folder: Path, gate: str) -> None:
    config = ExitConfig(
        gate, "none", (_quarter(model),), model.config.hidden_size, 1e-5, bottleneck=BOTTLENECK
    )
    info = ExitsInfo(model.config.model_type, fingerprint(model), "exact", revision="random weights")
    save_exits(build_exits(config, model.config.num_blocks), info, folder)


def _quarter(model: Model) -> int:
    return max(1, model.config.num_blocks // 4)
