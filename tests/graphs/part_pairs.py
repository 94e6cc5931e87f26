"""A block twice, over static steps and in its mixer's own way, and random traffic for both."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import torch
from torch import Tensor, nn

from offramp.graphs.chain import GraphedPart
from offramp.graphs.modules import static
from offramp.graphs.program import Graphs
from offramp.mixers.base import CELL, RUN_LIMIT, Mixer
from offramp.models.base import Block
from offramp.propagation.base import Part

WIDTH, SLOTS, LENGTH = 24, 5, 900
Act = Callable[[Part, Tensor], object]
NOTHING = torch.empty(0)


class Pair:
    """ours: a part over static steps on the graphs' device. theirs: the same weights and PyTorch, on the CPU."""

    def __init__(self, mixer: Mixer, seed: int, graphs: Graphs) -> None:
        self.rng, self.generator = random.Random(seed), torch.Generator().manual_seed(seed)
        block = Block(nn.Identity(), mixer, None, None).double()
        self.theirs = Part(block, mixer.init_state(SLOTS, LENGTH))
        moved = copy.deepcopy(block).to(graphs.device)
        state = moved.mixer.init_state(SLOTS, LENGTH)
        self.ours = GraphedPart(moved, state, static(moved.mixer, state), graphs)

    def both(self, act: Act, x: Tensor = NOTHING) -> list[object]:
        return [act(self.ours, x.to(self.ours.graphs.device)), act(self.theirs, x)]

    def alike(self, act: Act, x: Tensor = NOTHING) -> None:
        """Both give the same, NaN included."""
        ours, theirs = self.both(act, x)
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9, equal_nan=True, check_device=False)

    def tokens(self, count: int) -> Tensor:
        return torch.randn(count, WIDTH, generator=self.generator, dtype=torch.float64)

    def begin(self, slot: int) -> None:
        """A new sequence, after a prompt of some cells."""
        self.both(lambda part, _: part.reset(slot))
        for _ in range(self.rng.choice([0, 1, 3])):
            x_1TD = self.tokens(self.rng.choice([1, 90, CELL]))[None]
            self.alike(lambda part, x: part.prefill(x, [slot]), x_1TD)

    def turn(self, wild: bool) -> None:
        """Some rows' next tokens, one of them NaN where it is wild; then they are kept, in part, or for later."""
        provisional = self.theirs.state.provisional
        room = [slot for slot in range(SLOTS) if provisional[slot] < RUN_LIMIT]
        rows = sorted(self.rng.sample(room, self.rng.randint(1, len(room))))
        most = self.rng.choice([1, 6, RUN_LIMIT])
        n = [self.rng.randint(1, min(most, RUN_LIMIT - provisional[slot])) for slot in rows]
        x_ND = self.tokens(sum(n))
        if wild:
            x_ND[self.rng.randrange(len(x_ND))] = torch.nan
        if self.rng.random() < 0.8:
            self.alike(lambda part, x: part(x, rows, n).clone(), x_ND)
        else:
            self.both(lambda part, x: part.advance(x, rows, n), x_ND)
        self._settle(wild)

    def _settle(self, wild: bool) -> None:
        """What is wild is forgotten whole."""
        provisional = self.theirs.state.provisional
        some = range(SLOTS) if wild else self.rng.sample(range(SLOTS), 3)
        kept = sorted(slot for slot in some if provisional[slot])
        keep = [0 if wild else self.rng.randint(0, provisional[slot]) for slot in kept]
        if kept and self.rng.random() < 0.3:
            keep = [min(keep)] * len(kept)
            self.both(lambda part, _: part.rollback(kept, keep[0]))
        self.both(lambda part, _: part.commit(kept, keep))

    def skip(self) -> None:
        free = [slot for slot in range(SLOTS) if not self.theirs.state.provisional[slot]][:1]
        self.both(lambda part, _: part.skip(free, [2] * len(free)))

    def assert_same_memory(self) -> None:
        for slot in range(SLOTS):
            self.both(lambda part, _, slot=slot: part.commit([slot], [0]))
            self.alike(lambda part, _, slot=slot: part.module.mixer.snapshot(part.state, slot))
