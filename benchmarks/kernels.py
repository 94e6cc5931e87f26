"""How near products come to the speed of memory: `python benchmarks/kernels.py`.

One program multiplies the same tokens by so many different matrices `[D, D]` that no cache holds them, as a model's
step does. In every round each setting runs once, between two looks at how fast the same threads read memory; shares
of that are medians over rounds. Beside it PyTorch's F.linear on the same matrices, in turn (float32, bfloat16).

Shapes: N tokens, D width.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.bench.bandwidth import bandwidth
from offramp.native.emit.linear import Map, Weight, linears
from offramp.native.emit.operand import operand
from offramp.native.library import Library, find
from offramp.native.program import Builder
from offramp.native.quantise import QuantisedMatrix, quantise
from offramp.native.structures import BF16, F32, I4, I8

FORMATS = {"f32": F32, "bf16": BF16, "int8": I8, "int4": I4}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Matrices:
    """So many `[D, D]` that their bytes are those asked for. parts: one a product."""

    parts: list[Weight]
    bytes: int

    @staticmethod
    def make(form: str, width: int, wanted: int) -> Matrices:
        one = torch.randn(width, width) / width**0.5
        if form in DTYPES:
            one = one.to(DTYPES[form])
            count = max(1, wanted // one.nbytes)
            return Matrices(list(one.repeat(count, 1).split(width)), count * one.nbytes)
        small = quantise(one, FORMATS[form])
        count = max(1, wanted // small.bytes)
        numbers, scales = small.numbers.repeat(count, 1), small.scales.repeat(count, 1)
        whole = QuantisedMatrix(numbers, scales, width, small.format)
        return Matrices([whole.rows(i * width, (i + 1) * width) for i in range(count)], whole.bytes)


def our_products(library: Library, matrices: Matrices, form: str, width: int) -> Callable[[Tensor], object]:
    """Each matrix in a step of its own, as a block's products are."""
    builder = Builder(library)
    x, out = builder.register(width), builder.register(width)
    side = operand(builder, x, width, FORMATS[form])
    for part in matrices.parts:
        linears(builder, side, [Map(part, out=out)])
    program = builder.build(x, [out])
    return lambda x_ND: program.run(x_ND, [0], [len(x_ND)])


def torch_products(matrices: Matrices) -> Callable[[Tensor], object]:
    def run(x_ND: Tensor) -> None:
        x_ND = x_ND.to(matrices.parts[0].dtype)
        for part in matrices.parts:
            F.linear(x_ND, part)

    return run


def seconds(run: Callable[[Tensor], object], x_ND: Tensor) -> float:
    began = perf_counter()
    run(x_ND)
    return perf_counter() - began


def measure(library: Library, form: str, width: int, threads: int, options: argparse.Namespace) -> None:
    """One table: a line for each number of tokens."""
    library.threads = threads
    torch.set_num_threads(threads)
    matrices = Matrices.make(form, width, options.megabytes << 20)
    runs = {"ours": our_products(library, matrices, form, width)}
    if form in DTYPES and options.torch:
        runs["F.linear"] = torch_products(matrices)
    inputs = {count: torch.randn(count, width) for count in options.tokens}
    times: dict[tuple[str, int], list[float]] = {(name, n): [] for name in runs for n in inputs}
    shares: dict[tuple[str, int], list[float]] = {key: [] for key in times}
    for turn in range(options.rounds + 1):
        read = bandwidth(threads)
        for n, x_ND in inputs.items():
            for name, run in runs.items():
                taken = seconds(run, x_ND)
                if turn:
                    times[name, n].append(taken)
                    shares[name, n].append(matrices.bytes / taken / read)
    print(f"\n{form}, D = {width}, {threads} threads, read at {read / 1e9:.0f} GB/s last")
    print(f"{'N':>4}" + "".join(f"{name:>12} {'t(N)/t(1)':>10}" for name in runs))
    first = {name: median(times[name, options.tokens[0]]) for name in runs}
    for n in inputs:
        cells = (
            f"{median(shares[name, n]):>11.0%} {median(times[name, n]) / first[name]:>11.2f}" for name in runs
        )
        print(f"{n:>4} " + "".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--widths", type=int, nargs="+", default=[768, 2048])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=640, help="of matrices: more than the last cache")
    parser.add_argument("--torch", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    library = find()
    if library is None:
        raise SystemExit("no kernels were built here")
    print(f"instructions: {library.isa}")
    for width in options.widths:
        for form in options.formats:
            for threads in options.threads:
                measure(library, form, width, threads, options)


if __name__ == "__main__":
    main()
