"""This machine: what turns of the engine take with an exit in the first quarter and one in the last, and between them.

An exit's depth moves whole blocks from one pass to the other, so what lies between two depths lies on a straight line
over the weights below. What a gate adds is seen at the first of them; what the bridge `last_block` and propagations
add is timed by itself.

Shapes: N tokens of all rows, packed, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from statistics import mean
from typing import cast

import torch

from offramp.engine.frontier import Frontier
from offramp.engine.runner import choose_runner
from offramp.engine.timings import FREE, Curve, Timings, measure
from offramp.errors import UsageError
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import ExitSet, build_exits
from offramp.exits.untrained import untrained_exits
from offramp.forecast.agreement import LAST_BLOCK
from offramp.forecast.clock import Clock, scaled, summed
from offramp.forecast.setting import Setting
from offramp.forecast.turns import CHUNKS, MAX_LEN, Turns, watch
from offramp.models.base import Block, Model
from offramp.propagation.base import Part, Propagation
from offramp.registry import find, names

REPEATS = 5
BUDGET = 1.0
"""Seconds for a curve, about."""


class Here(Clock):
    """after: the exits, ascending. batches: the numbers of rows that will be asked for. `progress` hears how many are
    measured."""

    def __init__(
        self,
        model: Model,
        gate: ExitConfig,
        after: Sequence[int],
        batches: Sequence[int],
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.below = _below(model)
        low, *high = _ends(after, len(model.blocks))
        self.turns: dict[int, dict[int, Turns]] = {}
        self.gated: dict[int, Turns] = {}
        for done, rows in enumerate(sorted(batches), 1):
            self.turns[rows] = {at: watch(model, _bare(model, at), rows) for at in (low, *high)}
            self.gated[rows] = watch(model, _with_gate(model, gate, low), rows)
            if progress:
                progress(done)
        self._plain = {
            rows: mean(seen.plain for seen in by_depth.values()) for rows, by_depth in self.turns.items()
        }
        most = max(batches)
        with torch.inference_mode():
            self.last_block = _measure(_of_last_block(model, most), _counts(most))
            self.settled_from, self.settle = after[0], _settle(model, after[0], most)

    def plain(self, rows: int) -> float:
        return self._plain[rows]

    def serves(self, setting: Setting) -> bool:
        return setting.propagation in self.settle

    def timings(self, setting: Setting, rows: int) -> Timings:
        deeper = (1 - self.below[setting.after]) / (1 - self.below[self.settled_from])
        settled = scaled(self.settle[setting.propagation], deeper)
        bridge = [self.last_block] if setting.bridge == LAST_BLOCK else []
        return Timings(
            shallow=self._known(setting, lambda turns: turns.shallow),
            deep=self._deep(setting, rows),
            draft=summed(
                self._known(replace(setting, gated=False), lambda turns: turns.draft), settled, *bridge
            ),
        )

    def _deep(self, setting: Setting, rows: int) -> Curve:
        """Of so many rows; fewer tokens than they are come from fewer rows."""
        fewer = [
            point for point in self._known(setting, lambda turns: turns.deep[0]).points if point[0] < rows
        ]
        own = [(rows * (count + 1), self._chunk(setting, rows, count)) for count in CHUNKS]
        return Curve((*fewer, *own))

    def _chunk(self, setting: Setting, rows: int, count: int) -> float:
        """A deep pass over so many drafts of each row and one token more."""
        return self._plain[rows] * self._share(setting, rows, lambda turns: turns.deep[count])

    def _known(self, setting: Setting, share: Callable[[Turns], float]) -> Curve:
        """What takes this share of a plain turn, for a token of each of so many rows."""
        return Curve(
            tuple((rows, self._plain[rows] * self._share(setting, rows, share)) for rows in self.turns)
        )

    def _share(self, setting: Setting, rows: int, share: Callable[[Turns], float]) -> float:
        """On the straight line through the depths that were watched, with what a gate adds; never below 0."""
        places = {self.below[at]: share(turns) for at, turns in self.turns[rows].items()}
        (low, first), (high, second) = min(places.items()), max(places.items())
        slope = (second - first) / (high - low) if high > low else 0.0
        added = max(0.0, share(self.gated[rows]) - first) if setting.gated else 0.0
        return max(0.0, first + slope * (self.below[setting.after] - low)) + added


def _bare(model: Model, after: int) -> ExitSet:
    return untrained_exits((after,), len(model.blocks), model.config.hidden_size)


def _with_gate(model: Model, gate: ExitConfig, after: int) -> ExitSet:
    """The gate that is assumed, untrained, after so many blocks."""
    weight = next(model.parameters())
    return (
        build_exits(replace(gate, after=(after,)), len(model.blocks)).to(weight.device, weight.dtype).eval()
    )


def _below(model: Model) -> list[float]:
    """By depth, the share of the blocks' weights below it."""
    sizes = [sum(weight.numel() for weight in block.parameters()) for block in model.blocks]
    return [done / sum(sizes) for done in accumulate(sizes, initial=0)]


def _ends(after: Sequence[int], blocks: int) -> tuple[int, ...]:
    """The exits that are watched: the deepest in the first quarter and the first in the last, as far as there are."""
    low = max((at for at in after if at <= blocks / 4), default=after[0])
    high = min((at for at in after if at >= blocks * 3 / 4), default=after[-1])
    return tuple(sorted({low, high}))


# ---- what is timed by itself


def _measure(run: Callable[[int], None], counts: Sequence[int]) -> Curve:
    return measure(run, counts, REPEATS, BUDGET)


def _counts(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    return sorted({min(2**i, most) for i in range(most.bit_length() + 1)})


def _of_last_block(model: Model, slots: int) -> Callable[[int], None]:
    """A token of each row through the last block."""
    block = cast(Block, model.blocks[-1])
    part = Part(block, block.mixer.init_state(slots, MAX_LEN))
    hidden_1D = model.embed(torch.zeros(1, dtype=torch.long, device=next(model.parameters()).device))

    def run(tokens: int) -> None:
        part(hidden_1D.expand(tokens, -1), range(tokens), [1] * tokens)
        part.rollback(range(tokens))

    return run


def _settle(model: Model, after: int, rows: int) -> dict[str, Curve]:
    """By propagation, what tokens that leave there cost the deeper blocks at once; those that do not serve these
    blocks are missing."""
    exits = tuple(_bare(model, after))
    frontier = Frontier(
        model, exits, rows, min(MAX_LEN, model.config.context_length), choose_runner("fast", model, exits)
    )
    mixers = [cast(Block, block).mixer for block in model.blocks]
    with frontier.runner.decoding():
        alone = _measure(_of_first(frontier), _counts(rows))
    found: dict[str, Curve] = {}
    for name in names("offramp.propagation"):
        propagation = find("offramp.propagation", name, Propagation)()
        try:
            propagation.check(mixers, (after,))
        except UsageError:
            continue
        with frontier.runner.decoding():
            found[name] = (
                FREE if propagation.waits else _beyond(alone, _of_leaving(frontier, rows, propagation))
            )
    return found


def _beyond(alone: Curve, run: Callable[[int], None]) -> Curve:
    """What `run` takes longer than a pass that is known."""
    both = _measure(run, [count for count, _ in alone.points])
    return Curve(tuple((count, max(0.0, seconds - alone.seconds(count))) for count, seconds in both.points))


def _of_first(frontier: Frontier) -> Callable[[int], None]:
    """A token of each row through the first segment; then as if nothing had been."""

    def run(tokens: int) -> None:
        frontier.feed(range(tokens), [0] * tokens)
        frontier.run(0, range(tokens))
        frontier.commit(0, range(tokens), [0] * tokens)
        for slot in range(tokens):
            frontier.segments[1].ring.waiting[slot] = 0

    return run


def _of_leaving(frontier: Frontier, slots: int, propagation: Propagation) -> Callable[[int], None]:
    """A token of each row through the first segment, and out at its exit."""
    for slot in range(slots):
        frontier.reset(slot)
        frontier.prefill(slot, [0])  # something to copy

    def run(tokens: int) -> None:
        rows, ones = range(tokens), [1] * tokens
        frontier.feed(rows, [0] * tokens)
        passed = frontier.run(0, rows)
        frontier.commit(0, rows, ones)
        frontier.leave(0, passed.leaving_RD, rows, propagation)

    return run
