"""Segments over static steps: on a GPU CUDA graphs, one for a segment and a size of call.

All of its logic runs on any device: only `graphs.capture` knows CUDA. A token's numbers depend on the sizes of its
call within a tolerance, and the tier says so.

Shapes: N tokens of all rows in this call, packed, M tokens of a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from torch import Tensor

from offramp.engine.segment import Segment
from offramp.exits.base import Exit
from offramp.graphs.capture import graphs_on
from offramp.graphs.chain import Chain, GraphedPart
from offramp.graphs.grid import Grid
from offramp.graphs.modules import static, why_not_static
from offramp.graphs.program import Graphs
from offramp.graphs.static import twin
from offramp.models.base import Model
from offramp.propagation.base import Part


def find_graphs(model: Model, exits: Sequence[Exit]) -> Graphs | None:
    """For a model on a CUDA device; None elsewhere, and where `why_not_static` has a reason."""
    device = next(model.parameters()).device
    return graphs_on(device) if device.type == "cuda" and not why_not_static(model, exits) else None


def graphed(part: Part, graphs: Graphs) -> Part:
    """The part over a static step; itself if there is nothing to mix."""
    mixer = part.module.mixer
    if not mixer.remembers:
        return part
    return GraphedPart(part.module, part.state, static(mixer, part.state), graphs)


@dataclass(frozen=True)
class GraphedSegment(Segment):
    """One replay from the segment's beginning to its exit's last word."""

    def through(self, x_ND: Tensor, rows: Sequence[int], n: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """As any segment's; the gate's logits are on the host, which waits for the device here and nowhere else."""
        for part in (*self.blocks, *([self.gate] if self.gate else [])):
            part.count("run", rows, n)
        hidden_ND, *said = self.chain.run(x_ND, rows, n)
        if not said:
            return hidden_ND, hidden_ND[:0], hidden_ND[:0]
        gate_N, bridged_ND = said
        return hidden_ND, gate_N.cpu(), bridged_ND

    def commit(self, rows: Sequence[int], n: Sequence[int]) -> None:
        if rows:
            self.chain.commit(rows, n)

    @cached_property
    def chain(self) -> Chain:
        parts = [cast(GraphedPart, part) for part in self.parts]
        return Chain(parts, self._through, parts[0].graphs)

    @cached_property
    def _exit(self) -> Exit | None:
        return self.exit and twin(self.exit, [cast(GraphedPart, part).static for part in self.listeners])

    def _through(self, x_MD: Tensor | None, grids: Sequence[Grid]) -> Sequence[Tensor]:
        for block, grid in zip(self.blocks, grids, strict=False):
            x_MD = cast(GraphedPart, block).twin(x_MD, grid, (), ())
        assert x_MD is not None
        if self._exit is None:
            return [x_MD]
        heard = iter(grids[len(self.blocks) :])
        ends = [part for part in (self.gate, self.bridge) if part]
        standing = [next(heard) if part.module.mixer.remembers else None for part in ends]
        return [x_MD, *self._exit(x_MD, *standing, (), ())]
