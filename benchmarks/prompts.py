"""How long prompts take, beside transformers: `python benchmarks/prompts.py`.

For each shape of random weights and each number format, both load the same checkpoint in one process and take turns,
with as many threads. A turn is one prompt of random tokens to its last token's logits: ours as `Engine.generate` runs
it for one new token, nothing remembered between prompts; theirs as their `generate` does, `model(ids, use_cache=True,
logits_to_keep=1)`. Their Mambas take the path that they take on any CPU, token by token in PyTorch: that is what users
have. Ours runs twice a round: the two are the control.

A line tells median milliseconds, how many times faster ours is with its 95 % interval, and the control's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
import transformers

from offramp.bench.random_models import write_random
from offramp.bench.ratio import Ratio, ratio
from offramp.engine.engine import Engine
from offramp.engine.load import DTYPES, load
from offramp.engine.request import Request
from offramp.native.library import find

SHAPES = ("llama-100m", "mamba-100m", "mamba2-100m")
VOCABULARY = 32000

Prompt = tuple[int, ...]
Run = Callable[[Prompt], object]


def ours(folder: Path, dtype: str, longest: int) -> Run:
    engine = Engine(load(folder, "none", dtype=dtype).model, max_len=longest + 1, prefix_memory=0)
    return lambda prompt: engine.generate(Request(prompt, max_tokens=1, ignore_eos=True))


def theirs(folder: Path, dtype: str) -> Run:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype]).eval()

    @torch.inference_mode()
    def run(prompt: Prompt) -> object:
        return model(torch.tensor([prompt]), use_cache=True, logits_to_keep=1)

    return run


def seconds(run: Run, prompt: Prompt) -> float:
    began = perf_counter()
    run(prompt)
    return perf_counter() - began


def rounds(runs: dict[str, Run], tokens: int, count: int) -> dict[str, list[float]]:
    """Seconds by round, of each. The first round is not counted; who begins changes every round."""
    draw, times = Random(0), {name: [] for name in runs}  # type: dict[str, list[float]]
    for turn in range(count + 1):
        prompt = tuple(draw.choices(range(1, VOCABULARY), k=tokens))
        for name in sorted(runs, reverse=turn % 2 == 1):
            taken = seconds(runs[name], prompt)
            if turn:
                times[name].append(taken)
    return times


def told(found: Ratio) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def measure(folder: Path, dtype: str, options: argparse.Namespace) -> list[str]:
    our_run = ours(folder, dtype, max(options.tokens))
    runs = {"ours": our_run, "again": our_run, "theirs": theirs(folder, dtype)}
    lines = []
    for tokens in options.tokens:
        times = rounds(runs, tokens, options.rounds)
        took = [f"{median(times[name]) * 1e3:.1f}" for name in ("ours", "theirs")]
        faster, control = (ratio(times[name], times["ours"]) for name in ("theirs", "again"))
        lines.append(" | ".join([dtype, str(tokens), *took, told(faster), told(control)]))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", default=SHAPES)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--tokens", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    library = find()
    if library is not None:
        library.threads = options.threads
    print(f"kernels: {library.isa if library else 'none'}, {options.threads} threads")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}\n")
    print("| shape | dtype | tokens | ours, ms | transformers, ms | times faster | control |\n|" + "---|" * 7)
    for shape in options.shapes:
        with TemporaryDirectory() as folder:
            write_random(shape, Path(folder), torch.bfloat16, "linear")
            for dtype in options.dtypes:
                for line in measure(Path(folder), dtype, options):
                    print(f"| {shape} | {line} |", flush=True)


if __name__ == "__main__":
    main()
