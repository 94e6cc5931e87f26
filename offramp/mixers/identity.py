"""The mixer that mixes nothing: with it a linear gate and a bridge without state are no special cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from offramp.mixers.base import Mixer, State


class Identity(Mixer):
    """Returns its input unchanged. Its state only counts tokens."""

    remembers: ClassVar[bool] = False

    def init_state(self, slots: int, max_len: int) -> State:
        return State(slots)

    def reset(self, state: State, slot: int) -> None:
        state.position[slot] = state.provisional[slot] = 0

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        if state is not None:
            assert rows is not None and n is not None
            self.advance(x, state, rows, n)
        return x

    def prefill(self, x_RTD: Tensor, state: State, rows: Sequence[int]) -> Tensor:
        state.skip(rows, [x_RTD.shape[1]] * len(rows))
        return x_RTD

    def advance(self, x_ND: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        for slot, count in zip(rows, n, strict=True):
            state.provisional[slot] += count

    def commit(self, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        for slot, count in zip(rows, n, strict=True):
            state.position[slot] += count
            state.provisional[slot] = 0

    def rollback(self, state: State, rows: Sequence[int], keep: int = 0) -> None:
        for slot in rows:
            state.provisional[slot] = min(state.provisional[slot], keep)

    def snapshot(self, state: State, row: int, since: int = 0) -> dict[str, Tensor]:
        return {"position": torch.tensor(state.position[row])}

    def restore(self, state: State, row: int, saved: dict[str, Tensor]) -> None:
        state.position[row], state.provisional[row] = int(saved["position"]), 0
