"""Random schedules of calls for kernels with state, and what must not depend on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

import pytest
import torch
from torch import Tensor

from offramp.native.emit.linear import linear
from offramp.native.library import Library, load, runnable
from offramp.native.program import Builder, Marks, Register

SLOTS = 5
MOST = 16  # provisional tokens of a slot

each_isa = pytest.mark.parametrize("isa", runnable())
"""Without kernels these tests are skipped."""


def library(isa: str, threads: int) -> Library:
    found = load(isa)
    found.threads = threads
    return found


class Rig(Protocol):
    """Kernels with a state over SLOTS slots."""

    width: int

    def push(self, rows: Sequence[int], n: Sequence[int], x_ND: Tensor) -> Tensor:
        """The next n[i] tokens of slot rows[i] are provisional; what comes out, `[N, ...]`."""

    def commit(self, rows: Sequence[int], keep: Sequence[int]) -> None:
        """The first keep[i] are final, the others forgotten."""

    def final(self, slot: int) -> list[Tensor]:
        """What the slot remembers of its final tokens."""


@dataclass
class Round:
    """A call's rows and tokens, and how many of each slot's provisional tokens are kept then; None: all wait."""

    rows: list[int]
    n: list[int]
    keep: dict[int, int] | None


def rounds(seed: int, count: int) -> Iterator[Round]:
    """Every slot has at most MOST provisional tokens, and none in the end."""
    random, pending = Random(seed), dict.fromkeys(range(SLOTS), 0)
    for i in range(count):
        fitting = [slot for slot in pending if pending[slot] < MOST]
        rows = sorted(random.sample(fitting, random.randint(1, len(fitting))))
        n = [random.randint(1, random.choice([1, 3, MOST - pending[slot]])) for slot in rows]
        n = [min(tokens, MOST - pending[slot]) for slot, tokens in zip(rows, n, strict=True)]
        for slot, tokens in zip(rows, n, strict=True):
            pending[slot] += tokens
        keep = None
        if i == count - 1 or random.random() < 0.5 or len(fitting) < 2:
            keep = {slot: random.randint(0, tokens) for slot, tokens in pending.items() if tokens}
            pending = dict.fromkeys(range(SLOTS), 0)
        yield Round(rows, n, keep)


def random_inputs(seed: int, tokens: int, width: int) -> Tensor:
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed))


def assert_same_on_every_schedule(make: Callable[[int], Rig], seed: int, count: int = 12) -> None:
    """Bit for bit: tokens of rows together, in chunks, with others that are forgotten, over 3 threads, and only the
    kept ones, one by one in a call of their own, on one thread. make: a rig with so many threads."""
    together, kept = make(3), {slot: Kept() for slot in range(SLOTS)}
    for i, step in enumerate(rounds(seed, count)):
        x_ND = random_inputs(1000 * seed + i, sum(step.n), together.width)
        out_ND = together.push(step.rows, step.n, x_ND).clone()
        for slot, x, out in zip(step.rows, x_ND.split(step.n), out_ND.split(step.n), strict=True):
            kept[slot].pending += zip(x, out, strict=True)
        if step.keep is not None:
            together.commit(list(step.keep), list(step.keep.values()))
            for slot, tokens in step.keep.items():
                kept[slot].commit(tokens)
    for slot, tokens in kept.items():
        alone = make(1)
        for x_D, out_D in tokens.final:
            assert torch.equal(alone.push([slot], [1], x_D[None])[0], out_D)
            alone.commit([slot], [1])
        for ours, theirs in zip(together.final(slot), alone.final(slot), strict=True):
            assert torch.equal(ours, theirs)


class Kept:
    """A slot's tokens, inputs and outputs."""

    def __init__(self) -> None:
        self.final: list[tuple[Tensor, Tensor]] = []
        self.pending: list[tuple[Tensor, Tensor]] = []

    def commit(self, tokens: int) -> None:
        self.final += self.pending[:tokens]
        self.pending = []


def assert_nan_stays_in_its_row(make: Callable[[int], Rig]) -> None:
    """A row of NaN changes no bit of its neighbours."""
    clean, dirty = make(2), make(2)
    rows, n = [0, 2, 3], [2, 3, 1]
    for turn in range(2):
        x_ND = random_inputs(turn, 6, clean.width)
        ours = clean.push(rows, n, x_ND).clone()
        x_ND[2:5] = torch.nan
        theirs = dirty.push(rows, n, x_ND)
        assert theirs[2:5].isnan().all()
        assert torch.equal(ours[:2], theirs[:2]) and torch.equal(ours[5:], theirs[5:])
        for rig in (clean, dirty):
            rig.commit(rows, [1, 2, 1])


def assert_rounds_for_a_product(to: Builder, x: Register, made: Register, marks: Marks) -> None:
    """What the builder's last step makes of x it rounds for a product in bfloat16 that reads it: no step does it, and
    the bits are those of a product by itself."""
    weight, steps = random_inputs(5, 20, made.width).bfloat16(), len(to.steps)
    outs = [made, _product(to, made, weight)]
    assert len(to.steps) == steps + 1
    program, alone = to.build(x, outs), Builder(to.library)
    read = alone.register(made.width)
    apart = alone.build(read, [_product(alone, read, weight)])
    for count in (1, 3, 16):
        made_NK, y_NF = program.run(random_inputs(count, count, x.width), [1], [count], marks)
        assert torch.equal(apart.run(made_NK, [0], [count])[0], y_NF)


def _product(to: Builder, x: Register, weight: Tensor) -> Register:
    out = linear(to, x, weight)
    assert isinstance(out, Register)
    return out
