"""A function of tokens, and of where they stand, over buffers that never move: one set for each bucket.

Only two copies come from the host before it runs: none waits for the device.

Shapes: N packed tokens, M tokens of a grid, R rows, F fields, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from offramp.graphs.grid import Bucket, Grid, Room, arrange, read
from offramp.mixers.base import Mark

Step = Callable[[], None]
"""Reads and writes fixed buffers only."""
Prepare = Callable[[Step], Step]
"""What is called in a step's place from then on: the same, or a graph of it."""
Function = Callable[[Tensor | None, Sequence[Grid]], Sequence[Tensor]]
"""Of tokens `[M, D]` and each part's grid: outputs `[M, ...]`."""


@dataclass(frozen=True)
class Graphs:
    """What programs of one engine share."""

    device: torch.device
    prepare: Prepare

    @property
    def where(self) -> str:
        """The device, in words: what times depend on."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type


@dataclass
class Buffers:
    """outputs: made by the first call, packed as x is."""

    x: Tensor | None
    fields_FR: Tensor
    outputs: list[Tensor] = field(default_factory=list)
    step: Step | None = None


class Program:
    def __init__(self, function: Function, room: Room, graphs: Graphs) -> None:
        self.function, self.room, self.graphs = function, room, graphs
        self._made: dict[Bucket, Buffers] = {}

    def run(
        self, x_ND: Tensor | None, rows: Sequence[int], n: Sequence[int], marks: Sequence[Sequence[Mark]]
    ) -> list[Tensor]:
        """The outputs `[N, ...]` of x `[N, D]`, n[i] tokens of slot rows[i] that stand in each part at its marks[i].

        They are views of what the next run in this bucket overwrites.
        """
        bucket, fields = arrange(rows, n, marks, self.room)
        on_host = torch.tensor(fields, pin_memory=self.graphs.device.type == "cuda")
        made = self._made.get(bucket) or self._make(bucket, len(fields), x_ND)
        made.fields_FR.copy_(on_host, non_blocking=True)
        tokens = sum(n)
        if made.x is not None and x_ND is not None:
            made.x[:tokens] = x_ND[:tokens]
        assert made.step is not None
        made.step()
        return [output[:tokens] for output in made.outputs]

    def _make(self, bucket: Bucket, fields: int, x_ND: Tensor | None) -> Buffers:
        x = None if x_ND is None else x_ND.new_zeros(bucket.rows * bucket.tokens, *x_ND.shape[1:])
        fields_FR = torch.zeros(fields, bucket.rows, dtype=torch.long, device=self.graphs.device)
        made = self._made[bucket] = Buffers(x, fields_FR)
        made.step = self.graphs.prepare(lambda: self._step(bucket, made))
        return made

    def _step(self, bucket: Bucket, made: Buffers) -> None:
        packed_M, grids = read(made.fields_FR, bucket)
        given = self.function(None if made.x is None else made.x.index_select(0, packed_M), grids)
        if not made.outputs:
            made.outputs += [torch.empty_like(output) for output in given]
        for output, value in zip(made.outputs, given, strict=True):
            output.index_copy_(0, packed_M, value)
