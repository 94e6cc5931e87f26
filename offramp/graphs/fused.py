"""The fused decode step of both recurrences, mamba_ssm's, where that is installed and the memory is a GPU's."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

import torch
from torch import Tensor


class FusedUpdate(Protocol):
    """SSM states take one token of each row, in place: decay exp(dt A), and dt x B added. Gives what C reads."""

    def __call__(
        self,
        state: Tensor,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        *,
        dt_bias: Tensor | None = None,
    ) -> Tensor: ...


def fused_update(device: torch.device) -> FusedUpdate | None:
    """None where there is none: then PyTorch takes the step."""
    if device.type != "cuda":
        return None
    try:
        module = import_module("mamba_ssm.ops.triton.selective_state_update")
    except ImportError:
        return None
    return cast(FusedUpdate, module.selective_state_update)
