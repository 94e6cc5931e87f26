"""Tiny random models with exits: every backbone, gate and bridge, drawn from a seed.

Deep blocks change little, so that some drafts are accepted and some are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from offramp.engine.engine import Engine
from offramp.exits.base import BridgeConfig, ExitConfig
from offramp.exits.exit_set import ExitSet, build_exits
from offramp.models.base import Model
from offramp.models.families import family_for

VOCAB, CONTEXT, EOS = 37, 96, 0
AFTER = (2, 4, 6)

_COMMON: dict[str, Any] = dict(
    vocab_size=VOCAB,
    num_hidden_layers=8,
    max_position_embeddings=CONTEXT,
    eos_token_id=EOS,
    bos_token_id=EOS,
    hidden_act="silu",
)
_LLAMA = _COMMON | dict(
    model_type="llama",
    hidden_size=32,
    intermediate_size=48,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    tie_word_embeddings=False,
)
_MAMBA = _COMMON | dict(
    model_type="mamba",
    hidden_size=32,
    state_size=8,
    layer_norm_epsilon=1e-5,
    tie_word_embeddings=False,
)
_MAMBA2 = _COMMON | dict(
    model_type="mamba2",
    hidden_size=32,
    expand=2,
    num_heads=4,
    head_dim=16,
    state_size=16,
    n_groups=1,
    conv_kernel=4,
    layer_norm_epsilon=1e-5,
    tie_word_embeddings=False,
)
BACKBONES: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA | dict(model_type="mistral", sliding_window=7),
    "mamba2": _MAMBA2,
    "mamba2-groups": _MAMBA2 | dict(n_groups=2),
}
"""What is tested most; the specification knows them too. `raw_config` covers every family."""
KIN: dict[str, dict[str, Any]] = {
    "mamba": _MAMBA,
    "falcon_mamba": _MAMBA | dict(model_type="falcon_mamba", mixer_rms_eps=1e-3),
}
"""The specification knows these as well; they are tested with fewer gates and bridges."""

_ANY = (
    _LLAMA
    | _MAMBA2
    | dict(
        intermediate_size=64,  # expand * hidden_size, as Mamba has it
        time_step_rank=2,
        attn_layer_indices=[1, 4, 7],
        mamba_n_heads=4,
        mamba_d_head=16,
        mamba_d_state=16,
        mamba_n_groups=2,
    )
)


def raw_config(model_type: str) -> dict[str, Any]:
    """A tiny config.json of any family: the union of all families' fields, so that a new one needs no entry here."""
    return {key: value for key, value in _ANY.items() if key != "hidden_act"} | dict(model_type=model_type)


@dataclass(frozen=True)
class Tiny:
    """A model in evaluation mode, its exits, and the config.json they came from."""

    raw: dict[str, Any]
    model: Model
    exits: ExitSet

    def engine(self, **options: Any) -> Engine:
        return Engine(self.model, self.exits, max_len=CONTEXT, **options)

    def plain(self, **options: Any) -> Engine:
        """The same engine without exits."""
        return Engine(self.model, None, max_len=CONTEXT, **options)

    def weights(self) -> dict[str, Tensor]:
        """The model's tensors by the checkpoint's names."""
        family = family_for(self.raw["model_type"])
        return {family.weight_name(name): value for name, value in self.model.state_dict().items()}


def tiny(
    backbone: str = "llama",
    gate: str = "linear",
    bridge: str = "none",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    after: tuple[int, ...] = AFTER,
) -> Tiny:
    """backbone: a key of BACKBONES or KIN, or the model_type of any family. bridge: a name, or "block-<mixer>"."""
    raw = (BACKBONES | KIN).get(backbone) or raw_config(backbone)
    family = family_for(raw["model_type"])
    generator = torch.Generator().manual_seed(seed)
    model = family.build(family.config_from(raw))
    _draw(model, generator, gain=1.5)
    for block in model.blocks[3:]:
        _calm(block)
    exits = build_exits(_exit_config(gate, bridge, after, raw["hidden_size"]))
    _draw(exits, generator, gain=2.0)
    return Tiny(raw, model.to(dtype).eval(), exits.to(dtype).eval())


def _exit_config(gate: str, bridge: str, after: tuple[int, ...], width: int) -> ExitConfig:
    bridge, _, mixer = bridge.partition("-")
    settings = {"lens": BridgeConfig(rank=8), "block": BridgeConfig(width=16, mixer=mixer or "mamba")}
    own = settings.get(bridge, BridgeConfig())
    return ExitConfig(gate, bridge, after, width, 1e-5, bottleneck=16, bridge_config=own)


def _draw(module: nn.Module, generator: torch.Generator, gain: float) -> None:
    for name, value in module.named_parameters():
        with torch.no_grad():
            if name.endswith("A_log"):
                value.copy_((torch.rand(value.shape, generator=generator) + 0.2).log())
            elif value.dim() > 1:
                fan_in = value[0].numel()
                value.copy_(torch.randn(value.shape, generator=generator) * gain * fan_in**-0.5)
            else:
                start = 1.0 if "norm" in name or name.endswith("D") else 0.0
                value.copy_(start + torch.randn(value.shape, generator=generator) * 0.1)


def _calm(block: nn.Module) -> None:
    for name, value in block.named_parameters():
        if any(part in name for part in ("o_proj", "out_proj", "down_proj")):
            with torch.no_grad():
                value.mul_(0.2)
