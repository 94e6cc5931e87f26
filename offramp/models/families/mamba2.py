"""Mamba-2 in Hugging Face's layout, Mamba-Codestral included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from offramp.errors import CheckpointError
from offramp.mixers.mamba2 import Mamba2 as Mamba2Mixer
from offramp.models.mamba_like import MOST_SMALL, MambaLike, MambaLikeConfig
from offramp.models.rawconfig import positive_int, require


@dataclass(frozen=True)
class Mamba2Config(MambaLikeConfig):
    expand: int
    head_dim: int
    groups: int
    dt_limit: tuple[float, float]


class Mamba2(MambaLike):
    model_types = ("mamba2",)
    tied, state_size = False, 128

    def config_from(self, raw: dict[str, Any]) -> Mamba2Config:
        require(raw, "norm_before_gate", False)
        width, expand = positive_int(raw, "hidden_size"), positive_int(raw, "expand", 2, MOST_SMALL)
        head_dim, heads = positive_int(raw, "head_dim", 64), positive_int(raw, "num_heads", 128)
        groups = positive_int(raw, "n_groups", 8)
        if heads * head_dim != width * expand or heads % groups:
            raise CheckpointError(
                f"config.json: num_heads {heads} must be hidden_size {width} * expand {expand} / head_dim"
                f" {head_dim} and a multiple of n_groups {groups}"
            )
        return Mamba2Config(
            **self.fields(raw), expand=expand, head_dim=head_dim, groups=groups, dt_limit=dt_limit(raw)
        )

    def config_to(self, config: Mamba2Config) -> dict[str, Any]:
        return {
            "architectures": ["Mamba2ForCausalLM"],
            **super().config_to(config),
            "expand": config.expand,
            "head_dim": config.head_dim,
            "num_heads": config.hidden_size * config.expand // config.head_dim,
            "n_groups": config.groups,
            "time_step_limit": list(config.dt_limit),
        }

    def mixer(self, config: Mamba2Config) -> Mamba2Mixer:
        return Mamba2Mixer(
            config.hidden_size,
            inner=config.hidden_size * config.expand,
            head_dim=config.head_dim,
            state=config.state_size,
            groups=config.groups,
            taps=config.taps,
            bias=config.bias,
            conv_bias=config.conv_bias,
            dt_limit=config.dt_limit,
            norm_eps=config.norm_eps,
        )


def dt_limit(raw: dict[str, Any]) -> tuple[float, float]:
    """time_step_limit: two numbers; no upper end is written Infinity, "inf" or {"__float__": "Infinity"}."""
    value = raw.get("time_step_limit") or (0.0, float("inf"))
    try:
        low, high = (float(end["__float__"] if isinstance(end, dict) else end) for end in value)
    except (TypeError, ValueError, KeyError, OverflowError):
        low, high = 1.0, 0.0
    if not 0 <= low <= high:
        raise CheckpointError(
            f"config.json: time_step_limit must be two numbers, low and high, not {value!r}"
        )
    return low, high
