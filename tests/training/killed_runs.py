"""A script: trains exits in processes that are killed at random moments, until each run has ended all the same.

    python -m tests.training.killed_runs FOLDER KILLS OPTIMIZER

It prints how many were killed, and the digests of the exits that came of it: one digest where all is well.
It forks, so that a process need not import torch first.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from offramp.exits.store import load_exits
from offramp.training import checkpoint
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits import train_exits
from offramp.training.loop import Limits
from tests.training.tiny import tiny_documents, tiny_exits, tiny_model

CONFIG = ExitTrainConfig(steps=20, tokens_per_step=128, window=24, warmup_steps=2)


def train(out: Path, optimizer: str) -> None:
    """A whole training. Going on from a checkpoint it is given other weights to begin with: they may not count."""
    config = ExitTrainConfig(**{**vars(CONFIG), "optimizer": optimizer})
    exits = tiny_exits(seed=0 if newest(out) is None else os.getpid())
    limits = Limits(checkpoint_seconds=0)
    train_exits(tiny_model(), exits, tiny_documents(), config, out, limits=limits)


def newest(out: Path) -> Path | None:
    """The checkpoint that the next process goes on from."""
    return checkpoint.latest(out.with_name(f".{out.name}.run"))


def in_a_process(out: Path, optimizer: str) -> int:
    """Its number."""
    number = os.fork()
    if number == 0:
        code = 1
        try:
            train(out, optimizer)
            code = 0
        finally:
            os._exit(code)
    return number


def check_loadable(out: Path) -> None:
    """Whatever is there is whole. Raises where it is not."""
    if folder := newest(out):
        checkpoint._read_run(folder)
    if out.exists():
        load_exits(out, tiny_model())


def until_it_ends(out: Path, optimizer: str, longest: float, draw: random.Random) -> tuple[int, int]:
    """Kill and start again until one is not killed in time.

    Returns the number of processes killed, and of those that left a checkpoint. Patience grows, so that it ends
    on a busy machine too.
    """
    killed = left = 0
    while True:
        number = in_a_process(out, optimizer)
        time.sleep(draw.uniform(0.0, longest * 1.1**killed))
        os.kill(number, signal.SIGKILL)
        _, status = os.waitpid(number, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "a run failed"
            return killed, left
        killed += 1
        left += newest(out) is not None
        check_loadable(out)


def digest(out: Path) -> str:
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def main(folder: Path, kills: int, optimizer: str) -> None:
    train(folder / "warm", optimizer)  # imports and first calls: the processes need not make them again
    begun = time.perf_counter()
    train(folder / "whole", optimizer)
    longest = 0.6 * (time.perf_counter() - begun)
    draw, killed, resumed, digests = random.Random(0), 0, 0, {digest(folder / "whole")}
    while killed < kills:
        out = folder / f"after-{killed}"
        dead, left = until_it_ends(out, optimizer, longest, draw)
        killed, resumed = killed + dead, resumed + left
        digests.add(digest(out))
    debris = sorted(path.name for path in folder.iterdir() if path.name.startswith("."))
    found = {"killed": killed, "resumed": resumed, "digests": sorted(digests), "debris": debris}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
