"""No bridge: the shared norm and head read the hidden state as it is."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from offramp.exits.base import Bridge
from offramp.mixers.base import State


class NoBridge(Bridge):
    def forward(
        self,
        h_RTD: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        return h_RTD
