"""How long until the first token, and what loading takes in memory: `python benchmarks/start.py`.

Every round starts fresh processes in turn: a bare `import torch` twice (the second is the control) and
`offramp generate` on each bundled model, timed from the process's start to the first byte it prints. What is reported
is how much later than the bare import that comes: medians of the differences within rounds, with their range; beside
it the same of processor time, of whole processes: what a machine that is busy otherwise changes less. One more run of
each model comes with an empty cache folder: the first on a machine, which measures what passes cost.

Then a checkpoint of random weights is written (2.2 GB; gone afterwards), loaded in a fresh process, and made to say a
few tokens; after each step: the memory that only this process has, pages of files, and the most of both so far.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

TWINS = ("tiny-transformer", "tiny-mamba2")
PROMPT = "def fibonacci(n):"
PYTHON = (sys.executable, "-c")
IMPORT = (*PYTHON, "import torch; print(flush=True)")
WRITE = """
import sys
from pathlib import Path
import torch
from offramp.bench.random_models import write_random
write_random(sys.argv[2], Path(sys.argv[1]), torch.bfloat16, "mamba")
"""
LOAD = """
import sys
from offramp.engine.engine import Engine
from offramp.engine.load import load
from offramp.engine.request import Request
from offramp.engine.resident import resident

def say(when):
    now = resident()
    print(f"{when:36}" + "".join(f"{size / 1e6:10.0f}" for size in (now.own, now.mapped, now.peak)))

say("libraries imported")
checkpoint = load(sys.argv[1], dtype="bf16")
say("checkpoint loaded")
engine = Engine(checkpoint.model, checkpoint.exits, max_len=512, drafts=8)
say("engine made")
engine.generate(Request(prompt=tuple(range(100, 228)), max_tokens=16))
say("128 tokens read, 16 said")
"""


def generate(twin: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "offramp", "generate", twin, PROMPT, "--max-tokens", "4")


@dataclass(frozen=True)
class Start:
    """Seconds from the start of a process to the first byte on its stdout; processor seconds of the whole process."""

    wall: float
    processor: float


def started(command: Sequence[str], settings: Mapping[str, str]) -> Start:
    """Raises RuntimeError for a process that fails."""
    start, before = perf_counter(), getrusage(RUSAGE_CHILDREN)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=settings
    ) as process:
        assert process.stdout is not None
        byte = process.stdout.read(1)
        wall = perf_counter() - start
        process.stdout.read()
    if not byte or process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    after = getrusage(RUSAGE_CHILDREN)
    return Start(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def starts(rounds: int, scratch: Path) -> dict[str, list[Start]]:
    """By what was started, one a round."""
    kept = {**os.environ, "OFFRAMP_CACHE": str(scratch / "kept")}
    runs = {"import torch": (IMPORT, kept), "import torch, again": (IMPORT, kept)}
    runs |= {f"generate {twin}": (generate(twin), kept) for twin in TWINS}
    for command, settings in runs.values():  # files are in memory and times kept after that
        started(command, settings)
    found: dict[str, list[Start]] = {}
    for i in range(rounds):
        for name, (command, settings) in runs.items():
            found.setdefault(name, []).append(started(command, settings))
        for twin in TWINS:
            fresh = {**os.environ, "OFFRAMP_CACHE": str(scratch / f"{twin}-{i}")}
            found.setdefault(f"generate {twin}, first time", []).append(started(generate(twin), fresh))
    return found


def show_starts(found: Mapping[str, Sequence[Start]]) -> None:
    print(
        f"{'to the first byte, seconds':36}{'median':>10}{'beyond':>10}{'from':>10}{'to':>10}{'processor':>11}"
    )
    for name, these in found.items():
        pairs = list(zip(these, found["import torch"], strict=True))
        beyond = [later.wall - bare.wall for later, bare in pairs]
        work = median(later.processor - bare.processor for later, bare in pairs)
        figures = (median(start.wall for start in these), median(beyond), min(beyond), max(beyond))
        print(f"{name:36}" + "".join(f"{figure:10.2f}" for figure in figures) + f"{work:11.2f}")


def show_memory(shape: str, scratch: Path) -> None:
    folder = scratch / shape
    folder.mkdir()
    subprocess.run([*PYTHON, WRITE, str(folder), shape], check=True)
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    print(
        f"\n{f'{shape}, bfloat16, {size / 1e6:,.0f} MB':36}{'own MB':>10}{'files MB':>10}{'peak MB':>10}",
        flush=True,
    )
    subprocess.run([*PYTHON, LOAD, str(folder)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--shape", default="llama-1b", help="of offramp.bench.random_models; none: no checkpoint"
    )
    options = parser.parse_args()
    with TemporaryDirectory(prefix="offramp-start-") as scratch:
        if options.rounds:
            show_starts(starts(options.rounds, Path(scratch)))
        if options.shape != "none":
            show_memory(options.shape, Path(scratch))


if __name__ == "__main__":
    main()
