"""Mamba and Mamba-2 as llama.cpp names and lays them out: decays as they are, not as logarithms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import Tensor

from offramp.bench.gguf.convert import Written
from offramp.bench.gguf.file import Fact
from offramp.models.base import Model
from offramp.models.families.mamba import MambaConfig
from offramp.models.families.mamba2 import Mamba2Config

NAMES = {
    "norm.weight": "attn_norm.weight",
    "mixer.A_log": "ssm_a",
    "mixer.D": "ssm_d",
    "mixer.in_proj.weight": "ssm_in.weight",
    "mixer.conv1d.weight": "ssm_conv1d.weight",
    "mixer.conv1d.bias": "ssm_conv1d.bias",
    "mixer.x_proj.weight": "ssm_x.weight",
    "mixer.dt_proj.weight": "ssm_dt.weight",
    "mixer.dt_proj.bias": "ssm_dt.bias",
    "mixer.dt_bias": "ssm_dt.bias",
    "mixer.norm.weight": "ssm_norm.weight",
    "mixer.out_proj.weight": "ssm_out.weight",
}


def written_mamba(model: Model, max_len: int) -> Written:
    config = cast(MambaConfig, model.config)
    facts = _facts(config, config.inner, config.rank)
    return Written("mamba", facts, dict(_tensors(model, groups=None)))


def written_mamba2(model: Model, max_len: int) -> Written:
    config = cast(Mamba2Config, model.config)
    inner = config.hidden_size * config.expand
    facts = _facts(config, inner, inner // config.head_dim) | {"ssm.group_count": config.groups}
    return Written("mamba2", facts, dict(_tensors(model, config.groups)))


def _facts(config: MambaConfig | Mamba2Config, inner: int, steps: int) -> dict[str, Fact]:
    """steps: Mamba's rank of the step size, Mamba-2's number of heads."""
    return {
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "ssm.conv_kernel": config.taps,
        "ssm.inner_size": inner,
        "ssm.state_size": config.state_size,
        "ssm.time_step_rank": steps,
    }


def _tensors(model: Model, groups: int | None) -> Iterator[tuple[str, Tensor]]:
    """groups: of Mamba-2, which has a decay for each head and norms group by group."""
    for i, block in enumerate(model.blocks):
        for name, tensor in block.named_parameters():
            yield f"blk.{i}.{NAMES[name]}", _laid_out(name, tensor, groups)


def _laid_out(name: str, tensor: Tensor, groups: int | None) -> Tensor:
    match name:
        case "mixer.conv1d.weight":
            return tensor.squeeze(1)
        case "mixer.A_log":
            decay = -tensor.float().exp()
            return decay if groups is None else decay[:, None]
        case "mixer.D" if groups is not None:
            return tensor[:, None]
        case "mixer.norm.weight" if groups is not None:
            return tensor.unflatten(0, (groups, -1))
    return tensor
