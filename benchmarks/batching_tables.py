"""The tables of `batching.py`, in Markdown."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import fmean, median

import torch
from batching_bounds import Shares, gain_bound_with_heads, lockstep_bound
from batching_prediction import Prediction
from batching_statistics import Ratio, percentile
from batching_trial import Trial

from offramp.engine.load import Checkpoint
from offramp.forecast.bound import gain_bound

FIXED = 3
"""Drafts of the mode that has a fixed number of them."""
BASELINE, EXACT = "no exit", "no exit, exact tier"
PROJECT, DRAFTING, AUTO = "project, in step", f"verify, {FIXED} drafts", "verify, controller"


@dataclass(frozen=True)
class Batch:
    """One batch size: the trials of each mode, round by round; what the controller knew at the end, and the seconds
    that it took to measure before (its engine's making included)."""

    size: int
    trials: dict[str, list[Trial]]
    shares: Shares
    prediction: Prediction
    measuring: float

    def gain(self, name: str) -> Ratio:
        """Tokens a second over those of the baseline in the same round."""
        return Ratio.of([one.rate / base.rate for one, base in self._rounds(name)])

    def cpu_gain(self, name: str) -> Ratio:
        """The same, of processor time."""
        return Ratio.of([one.cpu_rate / base.cpu_rate for one, base in self._rounds(name)])

    def _rounds(self, name: str) -> Iterable[tuple[Trial, Trial]]:
        return zip(self.trials[name], self.trials[BASELINE], strict=True)

    def rate(self, name: str) -> float:
        return median(trial.rate for trial in self.trials[name])


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def conditions(rounds: int, tokens: int) -> str:
    """On what and how it was measured."""
    command = " ".join(["python", "benchmarks/batching.py", *sys.argv[1:]])
    level = (
        "95 % interval"
        if Ratio.is_interval(rounds)
        else "smallest and largest (too few rounds for an interval)"
    )
    return (
        f"`{command}` · {date.today()} · {_processor()}, cores: {_cores()} · PyTorch {torch.__version__}, "
        f"threads: {torch.get_num_threads()}, {torch.backends.cpu.get_cpu_capability()} · "
        f"{rounds} rounds of {tokens} tokens a row · in brackets: {level}"
    )


def _processor() -> str:
    """The processor's name where the system tells it (Linux does)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown processor"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def _cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def twin(name: str, checkpoint: Checkpoint, batches: Sequence[Batch]) -> str:
    """All tables of one twin."""
    modes = [mode for mode in batches[0].trials if mode != EXACT]
    dtype = str(next(checkpoint.model.parameters()).dtype).removeprefix("torch.")
    blocks = checkpoint.model.config.num_blocks
    first = next(iter(checkpoint.exits)).after
    return "\n\n".join(
        [
            f"## {name} ({dtype})",
            f"### {name}: gain over no exit, wall clock, fast tier",
            _gains(modes, batches),
            f"### {name}: every number, fast tier",
            _details(modes, batches),
            f"### {name}: what the exact tier costs",
            _price(batches),
            f"### {name}: bounds",
            _bounds(batches, blocks, first),
            _lockstep(batches, first),
            f"### {name}: what passes cost",
            _curves(batches[-1]),
            f"### {name}: what the controller expected of `verify`",
            _expected(batches),
        ]
    )


def _gains(modes: Sequence[str], batches: Sequence[Batch]) -> str:
    head = ["mode \\ batch", *(batch.size for batch in batches)]
    rates = ["no exit, tokens/s", *(f"{batch.rate(BASELINE):,.0f}" for batch in batches)]
    gains = [[mode, *(batch.gain(mode) for batch in batches)] for mode in modes if mode != BASELINE]
    return table([str(cell) for cell in head], [rates, *gains])


def _details(modes: Sequence[str], batches: Sequence[Batch]) -> str:
    head = ["batch", "mode", "tokens/s", "gain", "gain, CPU time", "p50 ms", "p99 ms", "mean ms"]
    head += ["depth", "weights read", "accepted"]
    return table(head, [_detail(batch, mode) for batch in batches for mode in modes])


def _detail(batch: Batch, mode: str) -> list[object]:
    trials = batch.trials[mode]
    gaps = [1000 * gap for trial in trials for gap in trial.gaps]
    reads = _reads_a_step(trials) / _reads_a_step(batch.trials[BASELINE])
    drafts = sum(trial.drafts for trial in trials)
    accepted = sum(sum(trial.accepted) for trial in trials)
    return [
        batch.size,
        mode,
        f"{batch.rate(mode):,.0f}",
        batch.gain(mode),
        batch.cpu_gain(mode),
        f"{percentile(gaps, 0.5):.1f}",
        f"{percentile(gaps, 0.99):.1f}",
        f"{fmean(gaps):.1f}",
        f"{fmean(depth for trial in trials for depth in trial.depths):.1f}",
        f"{reads:.0%}",
        f"{accepted / drafts:.0%} of {drafts:,}" if drafts else "",
    ]


def _reads_a_step(trials: Sequence[Trial]) -> float:
    """Weight bytes for a token of every row, up to a factor that all modes of a batch share."""
    return sum(trial.reads for trial in trials) / sum(trial.tokens for trial in trials)


def _price(batches: Sequence[Batch]) -> str:
    head = ["batch", "fast, tokens/s", "exact, tokens/s", "exact / fast"]
    rows = [
        [batch.size, *(f"{batch.rate(mode):,.0f}" for mode in (BASELINE, EXACT)), batch.gain(EXACT)]
        for batch in batches
    ]
    return table(head, rows)


# ---- against the bounds


def _leaving(batches: Sequence[Batch], first: int) -> float:
    """The share of tokens that leave at the first exit in a lossy mode."""
    return fmean(
        depth == first for batch in batches for trial in batch.trials[PROJECT] for depth in trial.depths
    )


def _verified(batches: Sequence[Batch]) -> float:
    """The chance that the next token may be drafted and is right, where those before it in the cycle were."""
    counts = [count for batch in batches for trial in batch.trials[DRAFTING] for count in trial.accepted]
    return sum(counts) / sum(min(count + 1, FIXED) for count in counts)


def _bounds(batches: Sequence[Batch], blocks: int, first: int) -> str:
    shares, leaving, verified = batches[0].shares, _leaving(batches, first), _verified(batches)
    depth = fmean(depth for b in batches for trial in b.trials[PROJECT] for depth in trial.depths)
    rows = [
        ("w: first segment and its exit, of all blocks and exits", f"{shares.w:.2f}"),
        ("head, gates: weights beside the blocks, of a pass without exits", _beside(shares)),
        ("share of tokens that leave the first exit, `project`", f"{leaving:.2f}"),
        ("q: share that may leave it and is right, `verify`", f"{verified:.2f}"),
        ("memory-bound: G(q, w)", f"{gain_bound(verified, shares.w):.2f}"),
        ("the same with head and gates", f"{gain_bound_with_heads(verified, shares):.2f}"),
        ("compute-bound: 1 / mean depth, `project`", f"{blocks / depth:.2f}"),
    ]
    return table(["quantity", "value"], rows)


def _beside(shares: Shares) -> str:
    return f"{shares.head:.0%}, {shares.first + shares.rest + shares.head - 1:.0%}"


def _lockstep(batches: Sequence[Batch], first: int) -> str:
    leaving, w = _leaving(batches, first), batches[0].shares.w
    bounds = [f"{lockstep_bound(leaving, w, batch.size):.2f}" for batch in batches]
    head = ["bound \\ batch", *(str(batch.size) for batch in batches)]
    return table(head, [["first exit alone, rows in step, memory-bound", *bounds]])


def _curves(batch: Batch) -> str:
    """Of the largest batch's engine."""
    timings = batch.prediction.timings
    curves = {"first segment": timings.shallow, "bridge and head": timings.draft, "all deeper": timings.deep}
    counts = sorted({count for curve in curves.values() for count, _ in curve.points})
    rows = [
        [name, *(_milliseconds(dict(curve.points).get(n)) for n in counts)] for name, curve in curves.items()
    ]
    return table(["ms \\ tokens", *map(str, counts)], rows)


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.1f}"


def _expected(batches: Sequence[Batch]) -> str:
    head = ["batch", "may leave", "accepted", "d chosen", "promised over its own d = 0", "promised tokens/s"]
    head += ["measured tokens/s", "measured over no exit", "s to measure"]
    return table(head, [_expectation(batch) for batch in batches])


def _expectation(batch: Batch) -> list[object]:
    known = batch.prediction
    return [
        batch.size,
        f"{known.leave:.2f}",
        f"{known.accept:.2f}",
        known.drafts,
        f"{known.chosen / known.plain:.2f}",
        f"{known.chosen:,.0f}",
        f"{batch.rate(AUTO):,.0f}",
        batch.gain(AUTO),
        f"{batch.measuring:.1f}",
    ]
