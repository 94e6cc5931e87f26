"""Segments, their frontiers and rings: all state of all running sequences, and the one primitive that writes it.

The blocks are cut at the exits into segments. A segment's blocks, gate and bridge share a frontier: how many of a
slot's tokens they have settled. Tokens a segment owes wait in its ring as the hidden states it will take in.

Shapes: R rows, T tokens in this call, S slots, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from offramp.engine.sequence import Stats
from offramp.engine.tier import Tier
from offramp.exits.base import Exit
from offramp.mixers.base import RUN_LIMIT
from offramp.models.base import Block, Model
from offramp.propagation.base import Part, Propagation, Stack, Stateful


@dataclass(frozen=True)
class Segment:
    """The blocks between two exits, with the exit that ends them (none: the last segment).

    ring `[S, 16, D]` and waiting[slot]: the hidden states still to be taken in, oldest first.
    """

    blocks: tuple[Part, ...]
    exit: Exit | None
    gate: Part | None
    bridge: Part | None
    ring: Tensor
    waiting: list[int]

    @property
    def listeners(self) -> tuple[Part, ...]:
        """The gate and the bridge where they remember anything."""
        both = (self.gate, self.bridge)
        return tuple(part for part in both if part and part.module.mixer.remembers)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Everything with state that shares this frontier."""
        return self.blocks + self.listeners

    def frontier(self, slot: int) -> int:
        """How many of the slot's tokens this segment has settled."""
        return self.blocks[0].state.next_position(slot)


@dataclass(frozen=True)
class Pass:
    """What a chunk leaves behind at the end of a segment: hidden states `[R, T, D]` (row i's first n[i] are real),
    and of each row's newest token what entered and left, the gate's value and the bridge's hidden state."""

    hidden_RTD: Tensor
    n: list[int]
    entering_RD: Tensor
    leaving_RD: Tensor
    gate_R: Tensor | None = None
    bridged_RD: Tensor | None = None


class Frontier:
    """All state of all slots over one model and its exits. `run` is the one primitive that writes it."""

    def __init__(self, model: Model, exits: Sequence[Exit], slots: int, max_len: int, tier: Tier) -> None:
        self.model, self.exits, self.tier = model, tuple(exits), tier
        self.device = next(model.parameters()).device
        self.segments = self._cut(slots, max_len)
        self.stats = [Stats() for _ in range(slots)]

    def _cut(self, slots: int, max_len: int) -> list[Segment]:
        bounds = [0, *(exit.after for exit in self.exits), len(self.model.blocks)]
        embedded_11D = self.model.embed(torch.zeros(1, 1, dtype=torch.long, device=self.device))

        def part(module: Stateful) -> Part:
            return Part(module, module.mixer.init_state(slots, max_len))

        return [
            Segment(
                blocks=tuple(part(cast(Block, self.model.blocks[i])) for i in range(start, stop)),
                exit=exit,
                gate=part(exit.gate) if exit else None,
                bridge=part(exit.bridge) if exit else None,
                ring=embedded_11D.new_zeros(slots, RUN_LIMIT, embedded_11D.shape[-1]),
                waiting=[0] * slots,
            )
            for start, stop, exit in zip(bounds, bounds[1:], [*self.exits, None], strict=False)
        ]

    @property
    def parts(self) -> dict[str, Part]:
        """Everything that tokens go through, by name: "blocks.3", "exits.0.gate", "exits.0.bridge"."""
        blocks = [block for segment in self.segments for block in segment.blocks]
        named = {f"blocks.{i}": block for i, block in enumerate(blocks)}
        for i, segment in enumerate(self.segments):
            around = {"gate": segment.gate, "bridge": segment.bridge}
            named |= {f"exits.{i}.{kind}": part for kind, part in around.items() if part}
        return named

    @property
    def last_block(self) -> Part:
        return self.segments[-1].blocks[-1]

    def depth(self, exit: int | None) -> int:
        """The depth of exit number `exit`: the blocks before it. All blocks for the last segment (None)."""
        return len(self.model.blocks) if exit is None else self.exits[exit].after

    # ---- a slot's life

    def reset(self, slot: int) -> Stats:
        """The slot begins a new sequence; what its work will be is counted in the Stats returned."""
        for segment in self.segments:
            segment.waiting[slot] = 0
        for part in self.parts.values():
            part.reset(slot)
        stats = self.stats[slot] = Stats(work={name: part.work[slot] for name, part in self.parts.items()})
        return stats

    def prefill(self, slot: int, cell: Sequence[int]) -> Tensor:
        """Run a prompt cell at full depth, past the rings and final at once; its last token's logits `[V]`."""
        x_1TD = self.model.embed(torch.tensor([cell], device=self.device))
        for segment in self.segments:
            for block in segment.blocks:
                x_1TD = block.prefill(x_1TD, [slot])
            for listener in segment.listeners:
                listener.prefill(x_1TD, [slot])
        return self.logits(x_1TD[:, -1:])[0, 0]

    def feed(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Put each row's newest token into the first ring."""
        x_R1D = self.model.embed(torch.tensor(tokens, device=self.device)[:, None])
        self._wait(self.segments[0], x_R1D, rows, [1] * len(rows))

    def _wait(self, segment: Segment, x_RTD: Tensor, rows: Sequence[int], n: Sequence[int]) -> None:
        for i, (slot, count) in enumerate(zip(rows, n, strict=True)):
            first = segment.waiting[slot]
            segment.ring[slot, first : first + count] = x_RTD[i, :count]
            segment.waiting[slot] = first + count

    # ---- the primitive

    def run(self, s: int, rows: Sequence[int]) -> Pass:
        """Push all that segment s owes each row through it as one chunk; what comes out waits at the next."""
        segment = self.segments[s]
        n = [segment.waiting[slot] for slot in rows]
        entering_RTD = x_RTD = self._chunk(segment, rows, n)
        if segment.exit is None:
            self.last_block.rollback(rows)  # a last_block bridge's tail: the real entries come now
        for block in segment.blocks:
            x_RTD = block(x_RTD, rows, n)
        for slot, count in zip(rows, n, strict=True):
            segment.waiting[slot] = 0
            self._count(slot, blocks=len(segment.blocks), tokens=count)
        entering_RD, leaving_RD = _newest(entering_RTD, n), _newest(x_RTD, n)
        if segment.exit is None or segment.gate is None or segment.bridge is None:
            return Pass(x_RTD, n, entering_RD, leaving_RD)
        self._wait(self.segments[s + 1], x_RTD, rows, n)
        segment.gate.count("run", rows, n)  # and the bridge's with it: they may share what they read
        gate_RT, bridged_RTD = segment.exit(x_RTD, segment.gate.state, segment.bridge.state, rows, n)
        gate_R = _newest(gate_RT[..., None], n)[:, 0].float().sigmoid()
        return Pass(x_RTD, n, entering_RD, leaving_RD, gate_R, _newest(bridged_RTD, n))

    def _chunk(self, segment: Segment, rows: Sequence[int], n: Sequence[int]) -> Tensor:
        width = self.tier.width(max(n))
        if len(rows) == 1:
            return segment.ring[rows[0] : rows[0] + 1, :width]
        return segment.ring[torch.tensor(rows, device=self.device), :width]

    def _count(self, slot: int, blocks: int, tokens: int) -> None:
        self.stats[slot].block_tokens += blocks * tokens
        self.stats[slot].block_passes += blocks

    # ---- what an exit may do

    def peek(self, s: int, passed: Pass, rows: Sequence[int]) -> Tensor:
        """The bridge's logits `[R, V]` for each row's newest token at exit s.

        A bridge that borrows the last block leaves one provisional entry there: the token's tail.
        """
        assert passed.bridged_RD is not None
        h_RTD = self._bucket(passed.bridged_RD[:, None])
        if self.exits[s].bridge.borrows_last_block:
            h_RTD = self.last_block(h_RTD, rows, [1] * len(rows))
            for slot in rows:
                self._count(slot, blocks=1, tokens=1)
        for slot in rows:
            self.stats[slot].head_rows += 1
            self.stats[slot].head_passes += 1
        return self.model.logits(h_RTD)[:, 0]

    def unpeek(self, s: int, rows: Sequence[int]) -> None:
        """The tokens stay after all: take their tail entries back."""
        if self.exits[s].bridge.borrows_last_block:
            for slot in rows:
                self.last_block.rollback([slot], keep=self.last_block.state.provisional[slot] - 1)

    def leave(self, s: int, passed: Pass, rows: Sequence[int], propagation: Propagation) -> None:
        """The rows' newest tokens leave at exit s: they wait, or the deeper segments are settled at once."""
        if propagation.waits:
            return
        stack = self._stack(s)
        propagation.after_exit(stack, self._bucket(passed.leaving_RD[:, None]), rows, [1] * len(rows))
        for segment in self.segments[s + 1 :]:
            for part in segment.parts:
                part.commit(rows, [part.state.provisional[slot] for slot in rows])
            for slot in rows:
                segment.waiting[slot] = 0

    def _stack(self, s: int) -> Stack:
        shallower = tuple(part for segment in self.segments[: s + 1] for part in segment.blocks)
        deeper = tuple(part for segment in self.segments[s + 1 :] for part in segment.blocks)
        listeners = tuple(part for segment in self.segments[s + 1 :] for part in segment.listeners)
        borrowed = self.exits[s].bridge.borrows_last_block
        return Stack(shallower, deeper[:-1] if borrowed else deeper, listeners)

    # ---- what becomes of provisional tokens

    def commit(self, s: int, rows: Sequence[int], n: Sequence[int]) -> None:
        """Segment s's first n[i] provisional tokens of slot rows[i] are final; the others are forgotten."""
        for part in self.segments[s].parts:
            part.commit(rows, n)

    def judge(self, rows: Sequence[int], n: Sequence[int]) -> None:
        """Every segment keeps the first n[i] tokens since the last judgement, the accepted length of row i."""
        for s in range(len(self.segments)):
            self.commit(s, rows, n)

    def check_integrity(self, slot: int) -> None:
        """Frontiers fall with depth, and a ring holds exactly the difference to the segment before it."""
        fronts = [segment.frontier(slot) for segment in self.segments]
        owed = [segment.waiting[slot] for segment in self.segments[1:]]
        assert owed == [shallow - deep for shallow, deep in pairwise(fronts)], (fronts, owed)
        assert all(0 <= count <= RUN_LIMIT for count in owed), owed
        for segment in self.segments:
            for part in segment.parts:
                tail = part is self.last_block
                assert tail or part.state.next_position(slot) == segment.frontier(slot), "a part fell behind"

    # ---- the head

    def logits(self, h_RTD: Tensor) -> Tensor:
        """Logits `[R, T, V]` through the shared norm and head, padded as the tier wants."""
        count = h_RTD.shape[1]
        return self.model.logits(self._bucket(h_RTD))[:, :count]

    def _bucket(self, h_RTD: Tensor) -> Tensor:
        """Zero rows after the real ones, up to the tier's width."""
        return nn.functional.pad(h_RTD, (0, 0, 0, self.tier.width(h_RTD.shape[1]) - h_RTD.shape[1]))


def _newest(x_RTD: Tensor, n: Sequence[int]) -> Tensor:
    """Each row's newest real token `[R, D]`."""
    return torch.stack([x_RTD[i, count - 1] for i, count in enumerate(n)])
