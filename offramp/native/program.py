"""A program: steps over registers, built once from modules' weights and run by all threads in one call.

Shapes: R rows, N tokens of all rows in this call, packed, D width.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import Structure
from dataclasses import dataclass, field
from itertools import accumulate, chain

import torch
from torch import Tensor

from offramp.native.library import Library
from offramp.native.structures import Call, Step, address

Marks = Sequence[Sequence[tuple[int, int, int, int]]]
"""By part, by row: place, position, source, target; see offramp.h."""


@dataclass(frozen=True)
class Register:
    """Float32 numbers `[N, width]` that steps read and write."""

    number: int
    width: int


@dataclass
class Builder:
    """Collects the steps of a program. parts: how many parts' marks its calls bring.   room: tokens it holds from the
    beginning; a call with more makes more.

    free: registers that nothing reads any more. taken: of every open `scratch`, the registers handed out since.
    freed: how many steps there were when a scratch ended; the last of them may read what is free since.
    """

    library: Library
    widths: list[int] = field(default_factory=list)
    steps: list[tuple[int, Structure, int | None]] = field(default_factory=list)
    kept: list[object] = field(default_factory=list)
    parts: int = 0
    free: list[Register] = field(default_factory=list)
    taken: list[list[Register]] = field(default_factory=list)
    freed: int = 0
    room: int = 16

    def register(self, width: int) -> Register:
        """One that nothing else reads, until the innermost `scratch` ends. It holds anything."""
        found = next((register for register in self.free if register.width == width), None)
        if found is None:
            self.widths.append(width)
            found = Register(len(self.widths) - 1, width)
        else:
            self.free.remove(found)
        if self.taken:
            self.taken[-1].append(found)
        return found

    @contextmanager
    def scratch(self) -> Iterator[None]:
        """Registers that are handed out within are free again behind it, so that a token's stay in the near cache."""
        self.taken.append([])
        yield
        self.free += self.taken.pop()
        self.freed = len(self.steps)

    def last(self) -> Structure | None:
        """The arguments of the step before, if it can do more: write to a register that is handed out now."""
        return self.steps[-1][1] if len(self.steps) > self.freed else None

    def part(self) -> int:
        """The number of one more part: a mixer with state."""
        self.parts += 1
        return self.parts - 1

    def add(self, kernel: str, arguments: Structure, reads: str | None = None) -> None:
        """One more step: a kernel of the library by its name in C. reads: what says which memory it reads first."""
        function = None if reads is None else self.library.kernel(reads)
        self.steps.append((self.library.kernel(kernel), arguments, function))

    def keep(self, tensor: Tensor) -> int:
        """Where a tensor's numbers begin; it lives as long as the program."""
        self.kept.append(tensor)
        return tensor.data_ptr()

    def floats(self, tensor: Tensor) -> int:
        """The same in float32, one number behind the other: a copy where the tensor is not so. For what is small."""
        return self.keep(tensor.detach().to("cpu", torch.float32).contiguous())

    def build(self, x: Register | None, outputs: Sequence[Register]) -> Program:
        return Program(self, x, outputs)


class Program:
    """What a builder has collected, ready to run: x goes into one register, the outputs come out of others."""

    def __init__(self, built: Builder, x: Register | None, outputs: Sequence[Register]) -> None:
        self._built, self._x, self._outputs = built, x, tuple(outputs)
        self._library = built.library
        steps = [Step(kernel, address(arguments), reads) for kernel, arguments, reads in built.steps]
        self._steps = (Step * len(steps))(*steps)
        self._capacity = 0
        self._last: _Placed | None = None
        self._room(built.room)

    def _room(self, tokens: int) -> None:
        """Registers for at least so many tokens, each beginning on a cache line."""
        if tokens <= self._capacity:
            return
        self._capacity = max(tokens, 2 * self._capacity)
        sizes = [-(-width * self._capacity // 16) * 16 for width in self._built.widths]
        self._memory = torch.zeros(sum(sizes) + 16)
        begin = -self._memory.data_ptr() % 64 // 4
        starts = list(accumulate(sizes, initial=begin))
        self._registers = [
            self._memory[start : start + width * self._capacity].view(self._capacity, width)
            for start, width in zip(starts, self._built.widths, strict=False)
        ]
        self._pointers = array("Q", [x.data_ptr() for x in self._registers])
        self._addresses = self._pointers.buffer_info()[0]

    def run(
        self, x_ND: Tensor | None, rows: Sequence[int], n: Sequence[int], marks: Marks = ()
    ) -> list[Tensor]:
        """The outputs `[N, width]` in float32, of x `[N, D]` and n[i] tokens of slot rows[i].

        They are views of registers: what the next run of this program overwrites.
        """
        assert len(marks) == self._built.parts
        placed = self._placed(rows, n)
        if self._x is not None and x_ND is not None:
            placed.x_ND.copy_(
                x_ND if len(x_ND) == placed.tokens else x_ND[: placed.tokens]
            )  # without padding
        placed.numbers[placed.marked :] = array("q", chain.from_iterable(chain.from_iterable(marks)))
        self._library.run(self._steps, len(self._steps), placed.call)
        return list(placed.outputs)

    def _placed(self, rows: Sequence[int], n: Sequence[int]) -> _Placed:
        """Most calls have the rows and counts of the one before."""
        last = self._last
        if last is not None and last.rows == tuple(rows) and last.n == tuple(n):
            return last
        self._room(sum(n))
        self._last = self._place(tuple(rows), tuple(n))
        return self._last

    def _place(self, rows: tuple[int, ...], n: tuple[int, ...]) -> _Placed:
        tokens, R = sum(n), len(rows)
        numbers = array("q", chain(rows, n, accumulate(n[:-1], initial=0)))
        numbers.extend(i for i, count in enumerate(n) for _ in range(count))
        marked = len(numbers)
        numbers.extend([0] * (4 * R * self._built.parts))
        begin, size = numbers.buffer_info()[0], numbers.itemsize
        slot, count, first, row, mark = (begin + size * at for at in (0, R, 2 * R, 3 * R, marked))
        call = Call(R, tokens, slot, count, first, row, mark, self._addresses)
        x_ND = self._registers[self._x.number][:tokens] if self._x else torch.empty(0)
        outputs = [self._registers[register.number][:tokens] for register in self._outputs]
        return _Placed(rows, n, tokens, numbers, marked, call, x_ND, outputs)


@dataclass(frozen=True)
class _Placed:
    """Everything about a call but its marks, which stand in `numbers` from `marked` on; it points into that array."""

    rows: tuple[int, ...]
    n: tuple[int, ...]
    tokens: int
    numbers: array[int]
    marked: int
    call: Call
    x_ND: Tensor
    outputs: Sequence[Tensor]
