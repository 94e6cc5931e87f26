"""How many bytes of weights a batch reads: of each pass once, however many rows share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from offramp.engine.frontier import Frontier, Pass
from offramp.evaluation.cost import part_costs
from offramp.propagation.base import Part, Propagation


class WeightReads:
    """Counts the passes of a frontier, by standing before its `run`, `leave` and `logits`.

    bytes: read since it was last set to 0. run[s]: of segment s with its gate and bridge. settle[s]: of everything
    deeper, where a token that leaves at exit s settles it at once. full: of a pass of all blocks and the head.
    """

    def __init__(self, frontier: Frontier) -> None:
        costs = part_costs(frontier.model, frontier.exits)
        names = {id(part): name for name, part in frontier.parts.items()}

        def read(parts: Sequence[Part], verb: str) -> int:
            return sum(costs[names[id(part)]][verb].weight_bytes for part in parts)

        segments = frontier.segments
        exits = [(segment.gate,) if segment.gate else () for segment in segments]
        blocks = [read(segment.blocks, "run") for segment in segments]
        self.bytes = 0
        self.head = costs["head"]["run"].weight_bytes
        self.full = sum(blocks) + self.head
        self.run = [of_blocks + read(gate, "run") for of_blocks, gate in zip(blocks, exits, strict=True)]
        self.settle = [
            sum(read(segment.parts, "advance") for segment in segments[s + 1 :]) for s in range(len(segments))
        ]
        self._watch(frontier)

    def _watch(self, frontier: Frontier) -> None:
        run: Callable[..., Pass] = frontier.run
        leave: Callable[..., None] = frontier.leave
        logits: Callable[..., Tensor] = frontier.logits

        def counted_run(s: int, rows: Sequence[int]) -> Pass:
            self.bytes += self.run[s]
            return run(s, rows)

        def counted_leave(s: int, leaving_RD: Tensor, rows: Sequence[int], how: Propagation) -> None:
            self.bytes += 0 if how.waits else self.settle[s]
            leave(s, leaving_RD, rows, how)

        def counted_logits(h_ND: Tensor) -> Tensor:
            self.bytes += self.head
            return logits(h_ND)

        watched: Any = frontier
        watched.run, watched.leave, watched.logits = counted_run, counted_leave, counted_logits
