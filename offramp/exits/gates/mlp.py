"""The gate without memory that is no linear map: one hidden layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from offramp.exits.base import ExitConfig, Gate
from offramp.mixers.base import Mixer, State
from offramp.mixers.identity import Identity


class Mlp(Gate):
    def make_mixer(self, width: int) -> Mixer:
        return Identity()

    def inner_width(self, config: ExitConfig) -> int:
        """Without a bottleneck the hidden layer is as wide as the model; there always is one."""
        return config.gate_width

    def read(
        self,
        h: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        return F.relu(super().read(h, state, rows, n))  # exact wherever a row lies; see ops.rowwise
