"""Segments, their frontiers and rings: all state of all running sequences, and the one primitive that writes it.

The blocks are cut at the exits into segments. A segment's blocks, gate and bridge share a frontier: how many of a
slot's tokens they have settled. Tokens a segment owes wait in its ring as the hidden states it will take in.

Shapes: R rows, T tokens of one, N tokens of all rows in this call, packed, S slots, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from offramp.engine.draft_head import PART, draft_head
from offramp.engine.reply import Stats
from offramp.engine.ring import Ring, newest
from offramp.engine.runner import Logits, Runner
from offramp.engine.segment import Segment
from offramp.exits.base import Exit
from offramp.mixers.base import RUN_LIMIT
from offramp.models.base import Block, Model
from offramp.ops.rowwise import rowwise
from offramp.propagation.base import Part, Propagation, Stack, Stateful, Work

Saved = list[dict[str, Tensor]]
"""A slot's memory: of each part of `Frontier.settled`, what its mixer's `snapshot` gave."""


@dataclass(frozen=True)
class Pass:
    """What the rows' chunks leave behind at the end of a segment: what entered and left it `[N, D]`, packed, row i's
    n[i] after those of row i - 1; and of each row's newest token the gate's value and the bridge's hidden state."""

    n: Sequence[int]
    entering_ND: Tensor
    hidden_ND: Tensor
    gate_R: Tensor | None = None
    bridged_RD: Tensor | None = None

    @property
    def entering_RD(self) -> Tensor:
        """What entered of each row's newest token."""
        return newest(self.entering_ND, self.n)

    @property
    def leaving_RD(self) -> Tensor:
        """What left of each row's newest token."""
        return newest(self.hidden_ND, self.n)


class Frontier:
    """All state of all slots over one model and its exits. `run` is the one primitive that writes it."""

    def __init__(self, model: Model, exits: Sequence[Exit], slots: int, max_len: int, runner: Runner) -> None:
        self.model, self.exits, self.runner, self.tier = model, tuple(exits), runner, runner.tier
        self._head, self.draft_head = runner.logits(model), draft_head(model, self.exits, runner)
        self.device = next(model.parameters()).device
        self.segments = self._cut(slots, max_len)
        self._stacks = [self._stack(s) for s in range(len(self.exits))]
        self.stats = [Stats() for _ in range(slots)]

    def _cut(self, slots: int, max_len: int) -> list[Segment]:
        bounds = [0, *(exit.after for exit in self.exits), len(self.model.blocks)]
        embedded_11D = self.model.embed(torch.zeros(1, 1, dtype=torch.long, device=self.device))

        def part(module: Stateful) -> Part:
            return self.runner.part(module, slots, max_len)

        return [
            self.runner.segment(
                blocks=[part(cast(Block, self.model.blocks[i])) for i in range(start, stop)],
                exit=exit,
                ends=self.runner.ends(exit, slots, max_len) if exit else [],
                ring=Ring(
                    embedded_11D.new_zeros(
                        slots, RUN_LIMIT, embedded_11D.shape[-1], dtype=self.runner.stream(embedded_11D)
                    )
                ),
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
    def settled(self) -> list[Part]:
        """Every part that a frontier counts for, in order of depth."""
        return [part for segment in self.segments for part in segment.parts]

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
            segment.ring.waiting[slot] = 0
        for part in self.parts.values():
            part.reset(slot)
        stats = self.stats[slot] = Stats(work={name: part.work[slot] for name, part in self.parts.items()})
        return stats

    def prefill(self, slot: int, cell: Sequence[int], more: bool = False) -> Tensor:
        """Run a prompt cell at full depth, past the rings and final at once; its last token's logits `[V]`, which
        alone needs what comes out of the last block. more: cells follow, and nobody asks for this one's (`[0]`)."""
        x_1TD = self.model.embed(torch.tensor([cell], device=self.device))
        for segment in self.segments:
            for block in segment.blocks:
                if block is not self.last_block:
                    x_1TD = block.prefill(x_1TD, [slot])
            for listener in segment.listeners:
                listener.prefill(x_1TD, [slot])
        last = cast(Block, self.last_block.module)
        out_1LD = last.prefill_last(x_1TD, self.last_block.state, [slot], last=0 if more else 1)
        return out_1LD.new_empty(0) if more else self.logits(out_1LD[0])[0]

    def snapshot(self, slot: int, since: int = 0) -> Saved:
        """A copy of what the slot remembers, entries from number `since` on. Needs nothing provisional or pending."""
        return [part.module.mixer.snapshot(part.state, slot, since) for part in self.settled]

    def restore(self, slot: int, saved: Saved) -> None:
        """Give the slot what `snapshot` returned, after what lies before it."""
        for part, memory in zip(self.settled, saved, strict=True):
            part.module.mixer.restore(part.state, slot, memory)

    def feed(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Put each row's newest token into the first ring."""
        x_RD = self.model.embed(torch.tensor(tokens, device=self.device))
        self.segments[0].ring.put(x_RD, rows, [1] * len(rows))

    # ---- the primitive

    def run(self, s: int, rows: Sequence[int]) -> Pass:
        """Push all that segment s owes each row through it as one chunk; what comes out waits at the next.

        rows: slots, ascending, each of which is owed something.
        """
        segment = self.segments[s]
        entering_ND, n = segment.ring.take(rows)
        if segment.exit is None:
            self.last_block.rollback(rows)  # a last_block bridge's tail: the real entries come now
        calls = self._calls(entering_ND, rows, n)
        through = [segment.through(*call) for call in calls]
        hidden_ND, gate_N, bridged_ND = (_packed(parts) for parts in zip(*through, strict=True))
        for slot, count in zip(rows, n, strict=True):
            self._count(slot, blocks=len(segment.blocks), tokens=count)
        if segment.exit is None:
            return Pass(n, entering_ND, hidden_ND)
        self.segments[s + 1].ring.put(hidden_ND, rows, n)
        gate_R = rowwise(torch.sigmoid, newest(gate_N, n)[:, None].float())[:, 0]
        return Pass(n, entering_ND, hidden_ND, gate_R, newest(bridged_ND, n))

    def _calls(
        self, x_ND: Tensor, rows: Sequence[int], n: Sequence[int]
    ) -> Iterator[tuple[Tensor, Sequence[int], Sequence[int]]]:
        """The packed tokens, cut and padded as the tier wants."""
        start = 0
        for share in self.tier.calls(n):
            stop = start + sum(n[share])
            yield self.tier.pad(x_ND[start:stop]), rows[share], n[share]
            start = stop

    def _count(self, slot: int, blocks: int, tokens: int) -> None:
        self.stats[slot].block_tokens += blocks * tokens
        self.stats[slot].block_passes += blocks

    # ---- what an exit may do

    def peek(self, s: int, bridged_RD: Tensor, rows: Sequence[int], judged: bool = False) -> Tensor:
        """The bridge's logits `[R, V]` for each row's newest token at exit s, of what the bridge gave.

        A bridge that borrows the last block leaves one provisional entry there: the token's tail. judged: nothing but
        drafts is chosen from them, so tokens that the exit does not list may stand at minus infinity.
        """
        if self.exits[s].bridge.borrows_last_block:
            calls = self._calls(bridged_RD, rows, [1] * len(rows))
            bridged_RD = _packed([self.last_block(*call)[: len(call[1])] for call in calls])
            for slot in rows:
                self._count(slot, blocks=1, tokens=1)
        head = self.draft_head if judged else None
        for slot in rows:
            self._count_head(slot, short=head is not None)
        return self.logits(bridged_RD, head)

    def _count_head(self, slot: int, short: bool) -> None:
        """One row through the head, or through what drafts read of it."""
        stats = self.stats[slot]
        if short:
            work = stats.work.setdefault(PART, Work())
            work.passes["run"] += 1
            work.tokens["run"] += 1
        else:
            stats.head_rows += 1
            stats.head_passes += 1

    def unpeek(self, s: int, rows: Sequence[int]) -> None:
        """The tokens stay after all: take their tail entries back."""
        if self.exits[s].bridge.borrows_last_block:
            for slot in rows:
                self.last_block.rollback([slot], keep=self.last_block.state.provisional[slot] - 1)

    def leave(self, s: int, leaving_RD: Tensor, rows: Sequence[int], propagation: Propagation) -> None:
        """The rows' newest tokens leave at exit s: they wait, or the deeper segments are settled at once."""
        if propagation.waits:
            return
        for call in self._calls(leaving_RD, rows, [1] * len(rows)):
            propagation.after_exit(self._stacks[s], *call)
        for segment in self.segments[s + 1 :]:
            segment.commit_all(rows)
            for slot in rows:
                segment.ring.waiting[slot] = 0

    def _stack(self, s: int) -> Stack:
        shallower = tuple(part for segment in self.segments[: s + 1] for part in segment.blocks)
        deeper = tuple(part for segment in self.segments[s + 1 :] for part in segment.blocks)
        listeners = tuple(part for segment in self.segments[s + 1 :] for part in segment.listeners)
        borrowed = self.exits[s].bridge.borrows_last_block
        return self.runner.stack(shallower, deeper[:-1] if borrowed else deeper, listeners)

    # ---- what becomes of provisional tokens

    def commit(self, s: int, rows: Sequence[int], n: Sequence[int]) -> None:
        """Segment s's first n[i] provisional tokens of slot rows[i] are final; the others are forgotten."""
        self.segments[s].commit(rows, n)

    def conclude(self, rows: Sequence[int], n: Sequence[int], judged: Sequence[bool]) -> None:
        """The last segment has spoken. Of rows that are judged every segment keeps the first n[i] tokens since the
        last judgement; of the others the shallower ones are final already, and only the last one's are left."""
        everywhere = [i for i, whole in enumerate(judged) if whole]
        for s in range(len(self.segments)):
            kept = range(len(rows)) if s == len(self.exits) else everywhere
            self.commit(s, [rows[i] for i in kept], [n[i] for i in kept])

    def check_integrity(self, slot: int) -> None:
        """Frontiers fall with depth, a ring holds exactly the difference to the segment before it, and a slot that
        has taken in nothing remembers nothing."""
        fronts = [segment.frontier(slot) for segment in self.segments]
        owed = [segment.ring.waiting[slot] for segment in self.segments[1:]]
        assert owed == [shallow - deep for shallow, deep in pairwise(fronts)], (fronts, owed)
        assert all(0 <= count <= RUN_LIMIT for count in owed), owed
        for segment in self.segments:
            for part in segment.parts:
                tail = part is self.last_block
                assert tail or part.state.next_position(slot) == segment.frontier(slot), "a part fell behind"
        if not any(fronts):
            memory = [value for saved in self.snapshot(slot) for value in saved.values()]
            left = any(value.any() for value in memory if value.is_floating_point())
            assert not left, "something of a former owner is left"

    # ---- the head

    def logits(self, h_ND: Tensor, head: Logits | None = None) -> Tensor:
        """Logits `[N, V]` through the shared norm and head, or through what stands for them."""
        head = self._head if head is None else head
        calls = self._calls(h_ND, range(len(h_ND)), [1] * len(h_ND))
        return _packed([head(x_ND)[: len(rows)] for x_ND, rows, _ in calls])


def _packed(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
