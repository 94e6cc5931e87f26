"""Mamba (1) in Hugging Face's layout (`state-spaces/mamba-130m-hf`), and FalconMamba, which norms dt, B and C."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from offramp.mixers.mamba import Mamba as MambaMixer
from offramp.models.mamba_like import MOST_SMALL, MambaLike, MambaLikeConfig
from offramp.models.rawconfig import positive_float, positive_int

FALCON = "falcon_mamba"


@dataclass(frozen=True)
class MambaConfig(MambaLikeConfig):
    """rank: of the step size's projection. mixer_rms_eps: of the norms of dt, B and C, FalconMamba's alone."""

    inner: int
    rank: int
    mixer_rms_eps: float | None


class Mamba(MambaLike):
    model_types = ("mamba", FALCON)
    tied, state_size = True, 16

    def config_from(self, raw: dict[str, Any]) -> MambaConfig:
        width, expand = positive_int(raw, "hidden_size"), positive_int(raw, "expand", 2, MOST_SMALL)
        # "expand" only stands in for intermediate_size: falcon-mamba-7b has 16, and is twice as wide as its stream.
        inner = positive_int(raw, "intermediate_size", width * expand)
        auto = -(-width // 16)
        rank = auto if raw.get("time_step_rank") == "auto" else positive_int(raw, "time_step_rank", auto)
        return MambaConfig(
            **self.fields(raw),
            inner=inner,
            rank=rank,
            mixer_rms_eps=positive_float(raw, "mixer_rms_eps", 1e-6) if raw["model_type"] == FALCON else None,
        )

    def config_to(self, config: MambaConfig) -> dict[str, Any]:
        falcon = config.model_type == FALCON
        return {
            "architectures": ["FalconMambaForCausalLM" if falcon else "MambaForCausalLM"],
            **super().config_to(config),
            "intermediate_size": config.inner,
            "expand": max(config.inner // config.hidden_size, 1),
            "time_step_rank": config.rank,
            **({"mixer_rms_eps": config.mixer_rms_eps} if falcon else {}),
        }

    def mixer(self, config: MambaConfig) -> MambaMixer:
        return MambaMixer(
            config.hidden_size,
            inner=config.inner,
            state=config.state_size,
            rank=config.rank,
            taps=config.taps,
            bias=config.bias,
            conv_bias=config.conv_bias,
            rms_eps=config.mixer_rms_eps,
        )
