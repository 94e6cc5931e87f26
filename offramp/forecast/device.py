"""A machine that is described and not at hand: what passes take by the roofline.

A pass takes max(bytes / bandwidth, FLOPs / peak), and what starting it and each of its blocks takes. Datasheets name
what no program reaches, so REACHED of both is counted. Overheads are those of kernels in a graph on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from offramp.engine.timings import Curve, Timings
from offramp.errors import UsageError
from offramp.evaluation.cost import Cost
from offramp.forecast.clock import Clock
from offramp.forecast.parts import Parts
from offramp.forecast.setting import RUN_MAX, Setting

REACHED_BANDWIDTH, REACHED_FLOPS = 0.8, 0.6
"""Shares of a datasheet's numbers."""


@dataclass(frozen=True)
class Device:
    """bandwidth: bytes a second. flops: floating-point operations a second. pass_seconds: to start a pass.
    block_seconds: to start a block. Raises UsageError for what no machine has."""

    bandwidth: float
    flops: float
    pass_seconds: float = 25e-6
    block_seconds: float = 6e-6

    def __post_init__(self) -> None:
        if not (self.bandwidth > 0 and self.flops > 0):
            raise UsageError("a device needs a bandwidth and FLOPs a second above 0, like 3350GB/s and 990T")
        if not (0 <= self.pass_seconds < 1 and 0 <= self.block_seconds < 1):
            raise UsageError("overheads are microseconds, from 0 to 1,000,000")


class Described(Clock):
    """Every row stands `parts.context` tokens into its sequence."""

    def __init__(self, device: Device, parts: Parts) -> None:
        self.device, self.parts = device, parts

    def plain(self, rows: int) -> float:
        parts, blocks = self.parts, len(self.parts.blocks)
        return self._curve(parts.span(0, blocks) + parts.head, blocks, rows).seconds(rows)

    def serves(self, setting: Setting) -> bool:
        return setting.after in self.parts.settle.get(setting.propagation, {})

    def timings(self, setting: Setting, rows: int) -> Timings:
        parts, blocks, after = self.parts, len(self.parts.blocks), setting.after
        gate = parts.gate if setting.gated else Cost()
        borrowed = parts.borrowed(setting.bridge)
        draft = parts.leaves(setting.kind.judged) + parts.settle[setting.propagation][after] + borrowed
        return Timings(
            shallow=self._curve(parts.span(0, after) + gate, after, rows),
            deep=self._curve(parts.span(after, blocks) + parts.head, blocks - after, rows),
            draft=self._curve(draft, int(borrowed != Cost()), rows, starts=0),
        )

    def seconds(self, cost: Cost, blocks: int = 0, starts: int = 0) -> float:
        """Of one token of one row."""
        return self._curve(cost, blocks, 1, starts).seconds(1)

    def _curve(self, cost: Cost, blocks: int, rows: int, starts: int = 1) -> Curve:
        """Of passes over so many blocks. Each row reads and writes its own state, once however many tokens it has."""
        device = self.device
        started = starts * device.pass_seconds + blocks * device.block_seconds

        def seconds(tokens: int) -> float:
            moved = cost.weight_bytes + cost.state_bytes * min(tokens, rows)
            computed = (cost.flops + cost.pointwise) * tokens
            return started + max(
                moved / (REACHED_BANDWIDTH * device.bandwidth), computed / (REACHED_FLOPS * device.flops)
            )

        return Curve(tuple((count, seconds(count)) for count in _counts(rows)))


def _counts(rows: int) -> list[int]:
    """Close enough that lines between them follow a roofline: its bend may lie anywhere."""
    most = rows * (RUN_MAX + 1)
    return sorted(
        {*range(1, min(most, 64) + 1), *(most * i // 64 for i in range(1, 65) if most * i >= 64), rows}
    )
