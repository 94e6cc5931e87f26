"""Wrong readings of the design, each one method or function away from the specification."""

from collections.abc import Sequence
from itertools import count
from random import Random

import torch
from torch import Tensor

from .exits import Gate
from .mixers import Attention, Mamba2, Storage
from .mixers.attention import AttentionState
from .mixers.recurrent import RecurrentState
from .propagation import Project, _position
from .row import Row
from .sampling import Noise, gumbel

# State


class ContinuesFromBase(Mamba2):
    """Every pass starts at the committed state, as if the provisional tokens were not there."""

    def start(self, state: RecurrentState) -> Tensor:
        return self._committed(state)


class ContinuesFromStaleWork(Mamba2):
    """Every pass starts at `work`, also after the swap, when `work` is what `base` was before."""

    def start(self, state: RecurrentState) -> Tensor:
        return state.ssm[1 - state.base].clone() if state.seen else self._committed(state)

    def cell(self, x_TD: Tensor, state: RecurrentState, positions: Sequence[int]) -> Tensor:
        y_TD = super().cell(x_TD, state, positions)
        state.ssm[1 - state.base] = state.ssm[state.base]
        return y_TD


class SeesFormerOwner(Mamba2):
    """A new sequence starts from what lies in the slot (NaN counting as zero, as on fresh memory)."""

    def _committed(self, state: RecurrentState) -> Tensor:
        return state.ssm[state.base].nan_to_num()

    def _window(self, state: RecurrentState) -> Tensor:
        return state.window.nan_to_num()


class MasksByMultiplying(Attention):
    """Reads up to a multiple of 16 and multiplies what is behind the length by zero: 0 x NaN is NaN."""

    def new_state(self, storage: Storage, max_len: int) -> AttentionState:
        return super().new_state(lambda *shape: storage(*shape).zero_(), max_len)

    def attend(self, query_HK: Tensor, state: AttentionState, position: int) -> Tensor:
        n = len(state.entries)
        padded = min(-(-n // 16) * 16, len(state.keys))
        keys, values = self._per_head(state.keys[:padded]), self._per_head(state.values[:padded])
        visible = torch.tensor([self._visible(state, i, position) for i in range(padded)])
        scores = (keys * query_HK).sum(-1) * self.head_dim**-0.5
        weights = scores.masked_fill(~visible[:, None], -torch.inf).softmax(0)
        return (weights[..., None] * values).sum(0)

    def _visible(self, state: AttentionState, i: int, position: int) -> bool:
        return i < len(state.entries) and (
            self.window is None or state.entries[i].position > position - self.window
        )


# The row


class CutsPromptsFreely(Row):
    """Cells end wherever the load of the moment lets them."""

    load = Random(0)

    def cell_end(self, start: int) -> int:
        return start + self.load.randint(1, self.request.cell)


class LeavesByLoad(Row):
    """In a lossy mode the scheduler, not the row alone, decides who leaves."""

    load = Random(0)

    def has_room(self) -> bool:
        return super().has_room() and self.load.random() < 0.7


class DraftsBeyondTheEnd(Row):
    def has_room(self) -> bool:
        return True


class KeepsAfterTheEnd(Row):
    """The ends are examined after the rollback, so the row keeps what its end has discarded."""

    def kept(self, kept: int, consumed: int) -> int:
        return consumed if self.ended else kept


class LeavesItsTail(Row):
    """The last_block bridge's entry stays although its token did not leave."""

    def take_back(self, e: int) -> None:
        pass


class KeepsMemory(Row):
    """The policy remembers tokens that were rejected."""

    def restore_memory(self, position: int) -> None:
        pass


class CountsTheRing(Row):
    """`run` is what waits in the rings, so early draining lets a row leave more often."""

    def run_length(self) -> int:
        return sum(len(ring) for ring in self.ring[1:]) - 1


# Others


class ProjectsPastBridges(Project):
    """Deeper block bridges do not hear the exit's hidden state; deeper gates do."""

    def tell_listeners(self, row: Row, e: int, h_D: Tensor) -> None:
        for segment in row.model.segments[e + 1 :]:
            for listener in segment.listeners:
                if isinstance(listener, Gate):
                    listener.run(h_D[None], row.states[listener], [_position(row, e)])


def noise_by_call() -> Noise:
    """A stream of noise instead of a counter: a draft uses up what its judge should have had."""
    calls = count()
    return lambda seed, position, vocabulary: gumbel(seed, next(calls), vocabulary)


def drains_early(row: Row) -> None:
    """A lossy row's rings are emptied before its newest token has stayed."""
    row.drain()


def drains_all_but_the_last(row: Row) -> None:
    row.drain(upto=len(row.frontier) - 1)
