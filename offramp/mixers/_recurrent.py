"""What mixers with a convolution and a state space share: their memory over slots, and every verb on it.

Provisional tokens never touch the final state: a slot has two SSM states, `base` (final) and `work` (base and
the provisional tokens), and a ring of the provisional tokens' inputs. Committing all of them swaps the two;
committing or keeping a part replays that part from base with the same steps, so the bits are those of a slot
that never saw the others.

Shapes: S slots, T tokens, W taps, C channels that are convolved, M = W - 1 + T inputs of the convolution.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.mixers.base import RUN_LIMIT, Mixer, State
from offramp.ops.conv import conv_tokens, next_window
from offramp.ops.norm import at_least_float32
from offramp.ops.rowwise import rowwise


@dataclass
class RecurrentState(State):
    """base[slot] says which of the two SSM states is final; the window, too, is of the final tokens.

    Subclasses add rings `[S, RUN_LIMIT, ...]` of whatever else a replay needs.
    """

    window: Tensor  # [S, W-1, C] inputs of the convolution
    ssm: Tensor  # [2, S, ...]
    ring: Tensor  # [S, RUN_LIMIT, C] provisional tokens' inputs of the convolution
    base: list[int] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.base = [0] * self.slots


class Recurrent(Mixer):
    """Subclasses write their rings in `forward` and `advance`, and say how one token changes the SSM state."""

    conv1d: nn.Conv1d

    @abstractmethod
    def _drives(self, state: RecurrentState, slot: int, start: int) -> tuple[Tensor, ...]:
        """What the ring's tokens from `start` on do to the SSM state: `_update`'s arguments, `[T, ...]` each."""

    @abstractmethod
    def _update(self, ssm: Tensor, *drive: Tensor) -> Tensor:
        """The SSM state after one token, never in place: fixed shapes and order, for the bits' sake."""

    def reset(self, state: State, slot: int) -> None:
        assert isinstance(state, RecurrentState)
        state.window[slot] = 0
        state.ssm[:, slot] = 0
        state.position[slot] = state.provisional[slot] = 0

    def commit(self, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        assert isinstance(state, RecurrentState)
        for slot, count in zip(rows, n, strict=True):
            assert count <= state.provisional[slot], "only tokens that were pushed can be committed"
            self.rollback(state, [slot], count)
            if count:
                state.base[slot] = 1 - state.base[slot]
                ring_1TC = state.ring[slot, None, :count]
                state.window[slot, None] = next_window(state.window[slot, None], ring_1TC)
            state.position[slot] += count
            state.provisional[slot] = 0

    def rollback(self, state: State, rows: Sequence[int], keep: int = 0) -> None:
        assert isinstance(state, RecurrentState)
        for slot in rows:
            if state.provisional[slot] > keep:
                state.provisional[slot] = keep
                self._settle(state, slot, 0)

    def snapshot(self, state: State, row: int) -> dict[str, Tensor]:
        assert isinstance(state, RecurrentState) and state.provisional[row] == 0
        final = state.ssm[state.base[row], row]
        position = torch.tensor(state.position[row])
        return {"window": state.window[row].clone(), "ssm": final.clone(), "position": position}

    def restore(self, state: State, row: int, saved: dict[str, Tensor]) -> None:
        assert isinstance(state, RecurrentState)
        state.window[row] = saved["window"]
        state.ssm[state.base[row], row] = saved["ssm"]
        state.position[row], state.provisional[row] = int(saved["position"]), 0

    def _begin_cell(self, state: RecurrentState, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The rows' windows `[R, W-1, C]` and final SSM states `[R, ...]`: where a prompt cell continues."""
        assert all(state.provisional[slot] == 0 for slot in rows), "a prompt cell follows final tokens only"
        return state.window[list(rows)], state.ssm[[state.base[slot] for slot in rows], list(rows)]

    def _end_cell(self, state: RecurrentState, rows: Sequence[int], inputs_RTC: Tensor, ssm: Tensor) -> None:
        """Tokens with these inputs of the convolution are final, and `ssm` `[R, ...]` is the state after them."""
        slots = list(rows)
        state.window[slots] = next_window(state.window[slots], inputs_RTC)
        state.ssm[[state.base[slot] for slot in slots], slots] = ssm
        for slot in slots:
            state.position[slot] += inputs_RTC.shape[1]

    def _append(self, state: RecurrentState, slot: int, inputs_TC: Tensor) -> slice:
        """Put tokens into the slot's ring; their places."""
        start = state.provisional[slot]
        stop = state.provisional[slot] = start + len(inputs_TC)
        assert stop <= RUN_LIMIT, "a slot holds at most RUN_LIMIT provisional tokens"
        state.ring[slot, start:stop] = inputs_TC
        return slice(start, stop)

    def _convolved(self, state: RecurrentState, slot: int, start: int, inputs_TC: Tensor) -> Tensor:
        """What the convolution gives for inputs that stand in the ring from place `start` on, `[T, C]`."""
        before_MC = torch.cat((state.window[slot], state.ring[slot, :start], inputs_TC))[start:]
        bias = None if self.conv1d.bias is None else at_least_float32(self.conv1d.bias)
        weight_CW = at_least_float32(self.conv1d.weight[:, 0])
        return rowwise(F.silu, conv_tokens(at_least_float32(before_MC), weight_CW, bias))

    def _walk(
        self, state: RecurrentState, slot: int, start: int, drives: Sequence[Tensor]
    ) -> Iterator[Tensor]:
        """The SSM state after each of the ring's tokens from `start` on.

        Continues from work, or from base at the ring's beginning; writes work when the last token is done.
        """
        base = state.base[slot]
        ssm = state.ssm[base if start == 0 else 1 - base, slot]
        for drive in zip(*drives, strict=True):
            ssm = self._update(ssm, *drive)
            yield ssm
        state.ssm[1 - base, slot] = ssm

    def _settle(self, state: RecurrentState, slot: int, start: int) -> None:
        """Bring work up to the ring's last token; nothing is read."""
        if start < state.provisional[slot]:
            for _ in self._walk(state, slot, start, self._drives(state, slot, start)):
                pass
