"""What mixers with a convolution and a state space share: their memory over slots, and every verb on it.

Provisional tokens never touch the final state: a slot has two SSM states, `base` (final) and `work` (base and
the provisional tokens), and rings of what the provisional tokens brought. Committing all of them swaps the two;
committing or keeping a part replays that part from base with the same steps, so the bits are those of a slot
that never saw the others.

All rows of a call take a step together. What they do is elementwise, and sums of one row's numbers in one fixed
order, so no row's bits depend on the others.

Shapes: R rows, S slots, W taps, C channels that are convolved, M packed tokens (N elsewhere; here N is an SSM
state's), L of them that are no padding.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.mixers._steps import Steps, in_steps
from offramp.mixers.base import RUN_LIMIT, Mark, Mixer, State
from offramp.ops.conv import causal_conv, conv_cell, conv_tokens, next_window, windows
from offramp.ops.norm import at_least_float32
from offramp.ops.rowwise import rowwise

WIDE = 16  # bytes of the widest number that PyTorch moves as one


@dataclass
class RecurrentState(State):
    """base[slot] says which of the two SSM states is final.

    A slot's tape is the convolution's window, of final tokens, and behind it the provisional tokens' inputs.
    Subclasses add rings `[S, RUN_LIMIT, ...]` of whatever else a replay needs.
    """

    tape: Tensor  # [S, W-1 + RUN_LIMIT, C]
    ssm: Tensor  # [2, S, ...]
    base: list[int] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.base = [0] * self.slots

    @property
    def window(self) -> Tensor:
        """`[S, W-1, C]`, a view: inputs of the convolution before the first provisional token."""
        return self.tape[:, :-RUN_LIMIT]

    def mark(self, slot: int, start: int) -> Mark:
        """Where tokens stand that follow `start` provisional ones. What is provisional already is in work; without it
        a walk begins at base."""
        base = self.base[slot]
        source, target = base ^ (start > 0), 1 - base
        return Mark(
            start, self.position[slot] + start, source * self.slots + slot, target * self.slots + slot
        )

    def settle(self, rows: Sequence[int], n: Sequence[int]) -> None:
        """The first n[i] tokens of slot rows[i] are final: they are in work, and the windows are moved."""
        for slot, count in zip(rows, n, strict=True):
            self.base[slot] ^= count > 0
            self.position[slot] += count
            self.provisional[slot] = 0

    def partly(self, rows: Sequence[int], n: Sequence[int]) -> list[tuple[int, int]]:
        """Of pairs (slot, so many) those that keep a part of what is provisional: work must be made again."""
        pairs = list(zip(rows, n, strict=True))
        assert all(count <= self.provisional[slot] for slot, count in pairs), (
            "only pushed tokens can be committed"
        )
        return [(slot, count) for slot, count in pairs if 0 < count < self.provisional[slot]]


@dataclass(frozen=True)
class Walk:
    """Tokens that stand on the tapes, in the order in which they are stepped.

    sources, targets: the rows' SSM states before and after, in `ssm.flatten(0, 1)`.
    window_L: the first input that the convolution reads for a token, on all tapes joined. ring_L: a token's place in
    all rings joined.
    """

    steps: Steps
    sources: list[int]
    targets: list[int]
    window_L: Tensor
    ring_L: Tensor


class Recurrent(Mixer):
    """Subclasses write their rings in `forward` and `advance`, and say how a token changes the SSM state."""

    conv1d: nn.Conv1d

    @abstractmethod
    def _drives(self, state: RecurrentState, walk: Walk) -> tuple[Tensor, ...]:
        """What tokens in the rings do to the SSM states: `_update`'s arguments, `[L, ...]` each."""

    @abstractmethod
    def _update(self, before: Tensor, after: Tensor, *drive: Tensor) -> None:
        """SSM states `[R, ...]` after one token of each row, written to `after`, which may be `before`.

        Fixed order, for the bits' sake.
        """

    def reset(self, state: State, slot: int) -> None:
        assert isinstance(state, RecurrentState)
        state.window[slot] = 0
        state.ssm[:, slot] = 0
        state.position[slot] = state.provisional[slot] = 0

    def commit(self, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        assert isinstance(state, RecurrentState)
        self._replay(state, state.partly(rows, n))
        self._move_windows(state, [(slot, count) for slot, count in zip(rows, n, strict=True) if count])
        state.settle(rows, n)

    def rollback(self, state: State, rows: Sequence[int], keep: int = 0) -> None:
        assert isinstance(state, RecurrentState)
        shortened = [slot for slot in rows if state.provisional[slot] > keep]
        if keep:
            self._replay(state, [(slot, keep) for slot in shortened])
        for slot in shortened:
            state.provisional[slot] = keep

    def snapshot(self, state: State, row: int, since: int = 0) -> dict[str, Tensor]:
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

    def claim(self, state: State, rows: Sequence[int], n: Sequence[int]) -> list[Mark]:
        """Room for the next n[i] provisional tokens of slot rows[i], still to be written: where they stand."""
        assert isinstance(state, RecurrentState)
        marks = [state.mark(slot, state.provisional[slot]) for slot in rows]
        for slot, count in zip(rows, n, strict=True):
            state.provisional[slot] += count
            assert state.provisional[slot] <= RUN_LIMIT, "a slot holds at most RUN_LIMIT provisional tokens"
        return marks

    def _append(self, state: RecurrentState, rows: Sequence[int], n: Sequence[int]) -> Walk:
        """Room on the tapes and in the rings for the next n[i] tokens of slot rows[i]."""
        return _walk(state, rows, self.claim(state, rows, n), n)

    def _write_tapes(self, state: RecurrentState, walk: Walk, inputs_MC: Tensor) -> None:
        own = state.tape.flatten(0, 1)[self.conv1d.kernel_size[0] - 1 :]  # what a window's last input is
        own.index_copy_(0, walk.window_L, inputs_MC[: len(walk.window_L)])

    def _convolved_whole(self, inputs_RTC: Tensor, window_RWC: Tensor | None) -> Tensor:
        """What the convolution gives for whole sequences `[R, T, C]`, or for a prompt cell behind a window."""
        weight_CW, bias_C = self.conv1d.weight[:, 0], self.conv1d.bias
        if window_RWC is None:
            return F.silu(causal_conv(inputs_RTC, weight_CW, bias_C))
        return F.silu(conv_cell(inputs_RTC, weight_CW, bias_C, window_RWC), inplace=True)

    def _convolved(self, state: RecurrentState, walk: Walk) -> Tensor:
        """What the convolution gives for tokens on the tapes, `[L, C]`."""
        weight_CW = at_least_float32(self.conv1d.weight[:, 0])
        bias = None if self.conv1d.bias is None else at_least_float32(self.conv1d.bias)
        inputs_LWC = windows(state.tape, weight_CW.shape[1]).index_select(0, walk.window_L)
        return rowwise(F.silu, conv_tokens(at_least_float32(inputs_LWC), weight_CW, bias))

    def _stepped(
        self, state: RecurrentState, walk: Walk, drives: Sequence[Tensor]
    ) -> Iterator[tuple[slice, Tensor]]:
        """Step after step, which of the walk's tokens were taken and their rows' SSM states `[r, ...]` then.

        The states change with the next step. They are written when their rows' last token is done.
        """
        memory, done = state.ssm.flatten(0, 1), 0
        for group in walk.steps.groups:
            members = slice(group.first, group.first + group.sizes[0])
            before, ssm = _opened(memory, walk.sources[members], walk.targets[members])
            for size in group.sizes:
                tokens = slice(done, done + size)
                self._update(before[:size], ssm[:size], *(drive[tokens] for drive in drives))
                yield tokens, ssm[:size]
                before, done = ssm, done + size
            _close(memory, walk.targets[members], ssm)

    def _settle(self, state: RecurrentState, walk: Walk, drives: Sequence[Tensor]) -> None:
        """As `_stepped`, but nothing is read."""
        for _ in self._stepped(state, walk, drives):
            pass

    def _replay(self, state: RecurrentState, kept: Sequence[tuple[int, int]]) -> None:
        """Work becomes base and the first so many provisional tokens, of pairs (slot, so many)."""
        if kept:
            slots, n = zip(*kept, strict=True)
            walk = _walk(state, slots, [state.mark(slot, 0) for slot in slots], n)
            self._settle(state, walk, self._drives(state, walk))

    def _move_windows(self, state: RecurrentState, taken: Sequence[tuple[int, int]]) -> None:
        """The windows as they are once the first so many provisional tokens are final, of pairs (slot, so many)."""
        before, length = self.conv1d.kernel_size[0] - 1, state.tape.shape[1]
        if taken and before:
            index = [slot * length + count for slot, count in taken], [slot for slot, _ in taken]
            source_R, slot_R = torch.tensor(index, device=state.tape.device)
            moved_RWC = windows(state.tape, before).index_select(0, source_R)
            state.window.index_copy_(0, slot_R, moved_RWC)


def outputs_of(linear: nn.Linear, x: Tensor, outputs: slice) -> Tensor:
    """Some of a linear map's outputs, reading their weights alone."""
    bias = None if linear.bias is None else linear.bias[outputs]
    return F.linear(x, linear.weight[outputs], bias)


def driven_and_gates(
    in_proj: nn.Linear, x_RTD: Tensor, driven: slice, gates: slice, last: int
) -> tuple[Tensor, Tensor]:
    """Of a projection's outputs those that drive the state, of all tokens, and the gates of the last so many."""
    if last == x_RTD.shape[1]:
        both = in_proj(x_RTD)
        return both[..., driven], both[..., gates]
    ends_RLD = x_RTD[:, x_RTD.shape[1] - last :]
    return outputs_of(in_proj, x_RTD, driven), outputs_of(in_proj, ends_RLD, gates)


def with_padding(x_L: Tensor, tokens: int) -> Tensor:
    """Zeros behind x, up to M tokens: a product's bits depend on how many tokens share the call."""
    missing = tokens - len(x_L)
    return F.pad(x_L, (0, 0) * (x_L.dim() - 1) + (0, missing)) if missing else x_L


def _walk(state: RecurrentState, rows: Sequence[int], marks: Sequence[Mark], n: Sequence[int]) -> Walk:
    """The next n[i] tokens of slot rows[i], that stand at marks[i]."""
    steps = in_steps(n, state.ssm[0, 0].numel())
    places = [(rows[i], marks[i].place + t) for i, t in steps.token_L]
    length = state.tape.shape[1]
    index = (
        [slot * length + place for slot, place in places],
        [slot * RUN_LIMIT + place for slot, place in places],
    )
    return Walk(
        steps,
        [marks[i].source for i in steps.rows],
        [marks[i].target for i in steps.rows],
        *torch.tensor(index, device=state.ssm.device),
    )


def _opened(memory: Tensor, sources: list[int], targets: list[int]) -> tuple[Tensor, Tensor]:
    """Rows' SSM states to read, and where to write them, `[R, ...]`: a row by itself is stepped where it lies."""
    if len(sources) == 1:
        return memory[sources[0], None], memory[targets[0], None]
    ssm = memory.index_select(0, torch.tensor(sources, device=memory.device))
    return ssm, ssm


def _close(memory: Tensor, targets: list[int], ssm: Tensor) -> None:
    """Several rows' SSM states are put where they belong.

    index_copy_ moves number by number, so they are made as wide as they can be.
    """
    if len(targets) == 1:
        return
    memory, ssm = memory.flatten(1), ssm.flatten(1)
    if memory.shape[1] * memory.itemsize % WIDE == 0:
        memory, ssm = memory.view(torch.complex128), ssm.view(torch.complex128)
    memory.index_copy_(0, torch.tensor(targets, device=memory.device), ssm)
