"""What runs the modules: PyTorch, as they are written, or kernels they were lowered to.

Shapes: N tokens of all rows in this call, packed, S slots, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from offramp.engine.graphed import GraphedSegment, find_graphs, graphed
from offramp.engine.ring import Ring
from offramp.engine.segment import Segment
from offramp.engine.tier import FAST, Tier, self_test
from offramp.errors import UsageError
from offramp.exits.base import Exit
from offramp.graphs.program import Graphs
from offramp.lowering.chain import Chain, NativePart, NativeStack
from offramp.lowering.exits import leave
from offramp.lowering.model import Lowering, find_lowering
from offramp.mixers.base import RUN_LIMIT
from offramp.models.base import Model
from offramp.native.program import Builder, Register
from offramp.propagation.base import Part, Stack, Stateful

Logits = Callable[[Tensor], Tensor]
"""Of hidden states `[N, D]` at any depth `[N, V]`."""


@dataclass(frozen=True)
class Runner:
    """PyTorch. tier: what it keeps, and how many tokens its calls hold."""

    tier: Tier

    @property
    def name(self) -> str:
        """What it is, in words: what times depend on."""
        return "PyTorch"

    def part(self, module: Stateful, slots: int, max_len: int) -> Part:
        return Part(module, module.mixer.init_state(slots, max_len))

    def ends(self, exit: Exit, slots: int, max_len: int) -> list[Part]:
        """An exit's gate and bridge."""
        return [Runner.part(self, module, slots, max_len) for module in (exit.gate, exit.bridge)]

    def segment(self, blocks: Sequence[Part], exit: Exit | None, ends: Sequence[Part], ring: Ring) -> Segment:
        """ends: gate and bridge of the exit, if there is one."""
        gate, bridge = ends or (None, None)
        return Segment(tuple(blocks), exit, gate, bridge, ring)

    def stack(self, shallower: Sequence[Part], deeper: Sequence[Part], listeners: Sequence[Part]) -> Stack:
        """What lies around an exit."""
        return Stack(tuple(shallower), tuple(deeper), tuple(listeners))

    def logits(self, model: Model) -> Logits:
        return model.logits

    def decoding(self) -> AbstractContextManager[None]:
        """Around everything but prompts."""
        return nullcontext()

    def stream(self, embedded: Tensor) -> torch.dtype:
        """The number format of hidden states between segments."""
        return embedded.dtype


@dataclass(frozen=True)
class NativeRunner(Runner):
    """Kernels: a token's bits depend on its own row alone, whatever shares the call; the residual stream is float32.

    What there are no kernels for of an exit PyTorch runs.
    """

    lowering: Lowering

    @property
    def name(self) -> str:
        library = self.lowering.library
        return f"kernels for {library.isa}, {library.threads} threads"

    def part(self, module: Stateful, slots: int, max_len: int) -> Part:
        return self.lowering.part(module, slots, max_len)

    def ends(self, exit: Exit, slots: int, max_len: int) -> list[Part]:
        if not self.lowering.covers(exit):
            return super().ends(exit, slots, max_len)
        return [self.lowering.part(module, slots, max_len) for module in (exit.gate, exit.bridge)]

    def segment(self, blocks: Sequence[Part], exit: Exit | None, ends: Sequence[Part], ring: Ring) -> Segment:
        gate, bridge = ends or (None, None)
        return NativeSegment(tuple(blocks), exit, gate, bridge, ring)

    def stack(self, shallower: Sequence[Part], deeper: Sequence[Part], listeners: Sequence[Part]) -> Stack:
        return NativeStack(tuple(shallower), tuple(deeper), tuple(listeners))

    def logits(self, model: Model) -> Logits:
        return self.lowering.head(model)

    def decoding(self) -> AbstractContextManager[None]:
        """PyTorch uses one thread: those it would use go on spinning behind each call, on the kernels' cores."""
        return _one_thread()

    def stream(self, embedded: Tensor) -> torch.dtype:
        return torch.float32


@dataclass(frozen=True)
class NativeSegment(Segment):
    """One call of kernels from the segment's beginning to its exit's last word, or to the exit."""

    def through(self, x_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        for part in (*self.blocks, *([self.gate] if self.gate else [])):
            part.count("run", rows, n)
        hidden_ND, *said = self._chain.run(x_ND[: sum(n)], rows, n)
        if self.exit is None:
            return hidden_ND, hidden_ND[:0], hidden_ND[:0]
        if not said:
            return hidden_ND, *self._asked(hidden_ND, rows, n, padding=len(x_ND) - len(hidden_ND))
        bridged_ND, *gates = said
        gate_N = gates[0][:, 0] if gates else hidden_ND.new_full((len(hidden_ND),), -torch.inf)
        return hidden_ND, gate_N, bridged_ND

    def commit(self, rows: Sequence[int], n: Sequence[int]) -> None:
        if not rows:
            return
        self._chain.commit(rows, n)
        for part in self.parts:
            if not isinstance(part, NativePart):
                part.commit(rows, n)

    def _asked(
        self, hidden_ND: Tensor, rows: Sequence[int], n: Sequence[int], padding: int
    ) -> tuple[Tensor, Tensor]:
        """Gate logits and bridged hidden states of an exit without kernels."""
        assert self.exit is not None and self.gate is not None and self.bridge is not None
        padded_ND = torch.nn.functional.pad(hidden_ND, (0, 0, 0, padding))
        gate_N, bridged_ND = self.exit(padded_ND, self.gate.state, self.bridge.state, rows, n)
        return gate_N[: len(hidden_ND)], bridged_ND[: len(hidden_ND)]

    @cached_property
    def _chain(self) -> Chain:
        return Chain([part for part in self.parts if isinstance(part, NativePart)], self._steps)

    def _steps(self, to: Builder, x: Register) -> Sequence[Register]:
        for block in self.blocks:
            x = cast(NativePart, block).kernels.run(to, x)
        if self.exit is None or not isinstance(self.gate, NativePart):
            return [x]
        assert isinstance(self.bridge, NativePart)
        return [x, *leave(self.exit, self.gate.kernels, self.bridge.kernels, to, x)]


@dataclass(frozen=True)
class GraphedRunner(Runner):
    """Static steps; on a GPU they are CUDA graphs."""

    graphs: Graphs

    @property
    def name(self) -> str:
        return f"static steps on {self.graphs.where}"

    def part(self, module: Stateful, slots: int, max_len: int) -> Part:
        return graphed(super().part(module, slots, max_len), self.graphs)

    def ends(self, exit: Exit, slots: int, max_len: int) -> list[Part]:
        return [self.part(module, slots, max_len) for module in (exit.gate, exit.bridge)]

    def segment(self, blocks: Sequence[Part], exit: Exit | None, ends: Sequence[Part], ring: Ring) -> Segment:
        gate, bridge = ends or (None, None)
        return GraphedSegment(tuple(blocks), exit, gate, bridge, ring)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_runner(wanted: str, model: Model, exits: Sequence[Exit] = ()) -> Runner:
    """Graphs on a GPU, kernels where there are some for the model; else PyTorch in the tier that can be kept: "exact"
    becomes a tolerance tier (same padding) where the self-test fails.

    Raises UsageError for another word than exact or fast.
    """
    if wanted not in ("exact", "fast"):
        raise UsageError(f"unknown tier {wanted!r}. Available: exact, fast.")
    if (graphs := find_graphs(model, exits)) is not None:
        return GraphedRunner(FAST, graphs)
    lowering = find_lowering(model)
    if lowering is not None and all(map(lowering.covers, exits)):
        return NativeRunner(Tier("exact", 0), lowering)
    tier = FAST if wanted == "fast" else Tier("exact" if self_test(model, exits) else "tolerance", RUN_LIMIT)
    return Runner(tier) if lowering is None else NativeRunner(tier, lowering)
