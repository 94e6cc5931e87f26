"""What exits gain and lose when many sequences run together: `python benchmarks/batching.py`.

For each bundled twin and batch size every mode decodes the same prompts, in rounds: each mode runs once a round, the
order rotates, and a mode's gain is its tokens a second over those of `no exit` in the same round. `no exit again` is
the control: its gain would be 1 on a machine that does nothing else. All is measured in the fast tier, where nothing
is padded; one table has the exact tier's price. Prompts are run before the clock starts (see `batching_trial`).

Prints Markdown; --into FILE puts it between the markers in that file instead. --quick only tries the script.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import batching_tables as tables
import torch
from batching_bounds import Shares
from batching_prediction import Prediction
from batching_trial import Mode, Prompts, Runner, Trial, load_beginnings

from offramp.cli.threads import use_threads
from offramp.engine.load import Checkpoint
from offramp.zoo.bundled import load
from offramp.zoo.twins import TWINS

AUTO = Mode("verify, controller", "verify", "auto")
MODES = (
    Mode("no exit"),
    Mode("project, in step", "project"),
    Mode("project, controller", "project", "auto"),
    Mode("defer, in step", "defer"),
    Mode("no exit again"),
    Mode("defer, controller", "defer", "auto"),
    Mode("verify, 3 drafts", "verify", tables.FIXED),
    AUTO,
    Mode("no exit, exact tier", tier="exact"),
)
BATCHES = (1, 2, 4, 8, 16, 32)
BEGIN, END = "<!-- tables: made by benchmarks/batching.py -->", "<!-- end of tables -->"


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    twins: Sequence[str]
    batches: Sequence[int]
    rounds: int
    tokens: int


def measure(checkpoint: Checkpoint, batch: int, plan: Plan) -> tables.Batch:
    """All modes at one batch size: one round that warms up, then those that count. Each round has other prompts."""
    runners = [Runner(checkpoint, mode, batch) for mode in MODES]
    beginnings = load_beginnings(checkpoint)
    trials: dict[str, list[Trial]] = {mode.name: [] for mode in MODES}
    for turn in range(-1, plan.rounds):
        prompts = _rotated(beginnings, turn * batch)[:batch]
        start = turn % len(runners)
        for runner in runners[start:] + runners[:start]:
            trial = runner.run(prompts, plan.tokens)
            if turn >= 0:
                trials[runner.mode.name].append(trial)
    measured = [runner for runner in runners if runner.mode.drafts == "auto"]
    judging = next(runner for runner in measured if runner.mode is AUTO)
    seconds = measured[0].started  # the others read what the first has kept
    return tables.Batch(batch, trials, Shares.of(judging.reads), Prediction.of(judging.engine), seconds)


def _rotated(prompts: Prompts, by: int) -> Prompts:
    start = by % len(prompts)
    return [*prompts[start:], *prompts[:start]]


def report(plan: Plan, threads: int | None) -> str:
    """Everything in Markdown."""
    parts = []
    for twin in plan.twins:
        checkpoint = load(twin, "mamba")
        if threads is None:
            use_threads(checkpoint.model)
        batches = []
        for batch in plan.batches:
            print(f"{twin}, batch {batch}", file=sys.stderr, flush=True)
            batches.append(measure(checkpoint, batch, plan))
        parts.append(tables.twin(twin, checkpoint, batches))
    return "\n\n".join([tables.conditions(plan.rounds, plan.tokens), *parts])


def put(text: str, file: Path) -> None:
    """Replace what stands between the markers of the file."""
    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{file} has no lines {BEGIN!r} and {END!r} to put the tables between.")
    file.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def main() -> None:
    options = _options()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if options.quick:
        plan = Plan(options.twins, (1, 2), rounds=2, tokens=6)
    else:
        plan = Plan(options.twins, options.batches, options.rounds, options.tokens)
    with tempfile.TemporaryDirectory() as empty:
        os.environ["OFFRAMP_CACHE"] = empty  # the controller measures now, not on some other day
        text = report(plan, options.threads)
    if options.into:
        put(text, options.into)
    else:
        print(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few numbers, and none to believe")
    parser.add_argument("--twins", nargs="+", choices=list(TWINS), default=list(TWINS))
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--rounds", type=int, default=9, help="fewer than 6 give no 95 %% interval")
    parser.add_argument("--tokens", type=int, default=48, help="of each row, on average, after its first")
    parser.add_argument("--threads", type=int, help="of torch; default: as the command line chooses")
    parser.add_argument("--into", type=Path, help="a file with markers to put the tables between")
    return parser.parse_args()


if __name__ == "__main__":
    main()
