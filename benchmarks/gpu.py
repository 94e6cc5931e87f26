"""Both 7B shapes on a GPU: checks, then times. `python benchmarks/gpu.py`, with 16 GB of disk and 24 GB on the device.

The weights are random and so is what they say: "shape only". Of each shape: a checkpoint is written and loaded;
graphs are checked against PyTorch's own way on the device; then what a pass over n tokens costs either way, 20 training
steps of gates, and tokens a second at full depth and with exits that are forced: a given share of tokens leaves, by
lot, and every draft is right. `--device cpu --shapes tiny-llama tiny-mamba2` tries the script itself.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from offramp.data.documents import Documents
from offramp.engine.engine import Engine
from offramp.engine.frontier import Frontier
from offramp.engine.load import load
from offramp.engine.request import Request
from offramp.engine.runner import GraphedRunner, Runner
from offramp.engine.tier import FAST
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import ExitSet, build_exits
from offramp.graphs.capture import graphs_on
from offramp.models.base import Model
from offramp.models.checkpoint import save_model
from offramp.models.families import family_for
from offramp.training.exit_config import ExitTrainConfig
from offramp.training.exits_job import ExitsJob

_MISTRAL = dict(
    model_type="mistral",
    vocab_size=32768,
    hidden_size=4096,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    intermediate_size=14336,
    max_position_embeddings=32768,
    rope_theta=1e6,
    sliding_window=None,
)
_CODESTRAL = dict(
    model_type="mamba2",
    vocab_size=32768,
    hidden_size=4096,
    num_hidden_layers=64,
    num_heads=128,
    head_dim=64,
    state_size=128,
    n_groups=8,
    tie_word_embeddings=False,
)
_TINY: dict[str, Any] = dict(vocab_size=512, hidden_size=64, num_hidden_layers=4)
SHAPES: dict[str, dict[str, Any]] = {
    "mistral-7b": _MISTRAL,
    "codestral-mamba-7b": _CODESTRAL,
    "tiny-llama": _MISTRAL | _TINY | dict(num_attention_heads=4, num_key_value_heads=2, intermediate_size=96),
    "tiny-mamba2": _CODESTRAL | _TINY | dict(num_heads=8, head_dim=16, state_size=16, n_groups=2),
}
MAX_LEN, PROMPT, REPLY = 1024, 128, 256


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES)[:2])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--gate", default="mamba")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--steps", type=int, default=20, help="of training")
    parser.add_argument("--leaving", type=float, default=0.8, help="share of tokens that leave, forced")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    print(f"{name}, torch {torch.__version__}, bfloat16, random weights: shape only")
    for shape in options.shapes:
        print(f"\n{shape}")
        model, exits = loaded(SHAPES[shape], device, options.gate)
        check(model, exits, device)
        passes(model, exits, device, options.tokens, options.repeats)
        training(model, exits, device, options.steps)
        forced(model, exits, device, options.leaving)
        del model, exits
        if device.type == "cuda":
            torch.cuda.empty_cache()


def loaded(raw: dict[str, Any], device: torch.device, gate: str) -> tuple[Model, ExitSet]:
    """Random weights, written and read again; exits after quarters of the blocks."""
    family, before = family_for(raw["model_type"]), torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            made = family.build(family.config_from(raw))
    finally:
        torch.set_default_dtype(before)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        save_model(made.cpu(), Path(folder))
        del made
        begin(device)
        began = perf_counter()
        model = load(folder, "none", dtype="bf16", device=str(device)).model
        say("load", f"{now(device) - began:.1f} s", device)
    blocks, width = model.config.num_blocks, model.config.hidden_size
    after = tuple(blocks * part // 4 for part in (1, 2, 3))
    exits = build_exits(ExitConfig(gate, "none", after, width, 1e-5), blocks)
    return model, exits.to(device, torch.bfloat16).eval()


def runners(device: torch.device) -> dict[str, Runner]:
    return {"PyTorch": Runner(FAST), "graphs": GraphedRunner(FAST, graphs_on(device))}


@torch.inference_mode()
def check(model: Model, exits: ExitSet, device: torch.device) -> None:
    """Chunks of some rows through all segments, in part forgotten: graphs, also replayed, and PyTorch agree."""
    ids = torch.randint(model.config.vocab_size, (4, 3, 5), generator=torch.Generator().manual_seed(0))
    said: list[torch.Tensor] = []
    for runner in runners(device).values():
        frontier, outputs = Frontier(model, list(exits), 3, MAX_LEN, runner), []
        for slot in range(3):
            frontier.reset(slot)
        for ids_RT in ids.tolist():
            for t in range(5):
                frontier.feed([0, 1, 2], [row[t] for row in ids_RT])
            for s in range(len(frontier.segments)):
                outputs.append(frontier.run(s, [0, 1, 2]).hidden_ND.float().clone())
            frontier.conclude([0, 1, 2], [5, 3, 1], [True] * 3)
        said.append(torch.cat(outputs))
    error = (said[0] - said[1]).norm() / said[0].norm()
    print(f"check        graphs against PyTorch: relative difference {error:.1e}")
    assert error < 0.03, "graphs and PyTorch disagree"


@torch.inference_mode()
def passes(model: Model, exits: ExitSet, device: torch.device, tokens: Sequence[int], repeats: int) -> None:
    """t_s(n): n tokens, of one row up to 16, through each segment; milliseconds."""
    for name, runner in runners(device).items():
        slots = -(-max(tokens) // 16)
        frontier = Frontier(model, list(exits), slots, MAX_LEN, runner)
        for n in tokens:
            rows, share = range(-(-n // 16)), min(n, 16)
            taken = [
                median(segment_times(frontier, s, rows, share, device, repeats)) for s in segments(frontier)
            ]
            each = "  ".join(f"{1000 * seconds:7.2f}" for seconds in taken)
            print(
                f"t_s({n:<3}) ms  {each}  all {1000 * sum(taken):7.2f}   {name}, {len(rows)} rows", flush=True
            )
        del frontier
    say("passes", "", device)


def segments(frontier: Frontier) -> range:
    return range(len(frontier.segments))


def segment_times(
    frontier: Frontier, s: int, rows: Sequence[int], share: int, device: torch.device, repeats: int
) -> list[float]:
    """Seconds of passes over `share` tokens of each row, which are forgotten."""
    times = []
    for turn in range(repeats + 3):
        for slot in rows:
            frontier.segments[s].ring.waiting[slot] = share
        began = now(device)
        frontier.run(s, rows)
        if turn > 2:  # libraries are warm and graphs captured
            times.append(now(device) - began)
        for t in segments(frontier):
            frontier.commit(t, rows, [0] * len(rows))
            for slot in rows:
                frontier.segments[t].ring.waiting[slot] = 0
    return times


def training(model: Model, exits: ExitSet, device: torch.device, steps: int) -> None:
    """Steps of all gates over the frozen backbone, on random tokens."""
    generator = torch.Generator().manual_seed(1)
    documents = torch.randint(1, model.config.vocab_size, (16, 513), generator=generator).tolist()
    config = ExitTrainConfig(steps=steps, tokens_per_step=4096, window=512)
    learnt = build_exits(exits.config, model.config.num_blocks).to(device, torch.float32).train()
    model.requires_grad_(False)
    begin(device)
    job = ExitsJob(model, learnt, Documents(documents, documents[:1], "random tokens"), config, "")
    job.advance(0)
    began = now(device)
    losses = [job.advance(step).losses["loss"] for step in range(1, steps + 1)]
    taken = (now(device) - began) / steps
    what = f"{taken:.2f} s a step of 4,096 tokens, loss {losses[0]:.3f} to {losses[-1]:.3f}"
    say("training", f"{steps} steps, {what}", device)


def forced(model: Model, exits: ExitSet, device: torch.device, leaving: float) -> None:
    """Tokens a second of one row whose tokens are given: full depth, its control, then exits."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(1, model.config.vocab_size, (PROMPT + REPLY,), generator=generator).tolist()
    request = Request(tuple(ids[:PROMPT]), forced=tuple(ids[PROMPT:]), ignore_eos=True, max_tokens=REPLY)
    leaves = replace(request, policy="random", thresholds=(1 - leaving,))
    full = Engine(model, None, max_len=MAX_LEN, tier="fast", drafts=0)
    early = Engine(model, exits.select(exits.after[:1]), max_len=MAX_LEN, tier="fast", drafts=7)
    arms: dict[str, Callable[[], float]] = {
        "full depth": lambda: speed(full, replace(request, policy="never"), device),
        "full depth again": lambda: speed(full, replace(request, policy="never"), device),
        "verify": lambda: speed(early, leaves, device),
        "defer": lambda: speed(early, replace(leaves, propagation="defer"), device),
    }
    begin(device)
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(4):
        for name, run in arms.items():
            taken = run()
            times[name] += [taken] if turn else []
    for name, taken in times.items():
        ratio = median(times["full depth"]) / median(taken)
        print(f"forced       {name:<17} {REPLY / median(taken):7.1f} tokens/s, {ratio:.2f} of full depth")
    say("forced", f"{leaving:.0%} leave after a quarter of the blocks, all drafts right", device)


def speed(engine: Engine, request: Request, device: torch.device) -> float:
    """Seconds from the first token to the last."""
    began = 0.0
    for event in engine.stream(request):
        began = began or now(device)
        assert not event.error
    return now(device) - began


def begin(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def now(device: torch.device) -> float:
    """Once the device has done all."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def say(what: str, found: str, device: torch.device) -> None:
    """With the most memory that tensors took on the device since `begin`."""
    peak = f"peak {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB" if device.type == "cuda" else ""
    print(f"{what:<12} {found}{', ' * bool(found and peak)}{peak}", flush=True)


if __name__ == "__main__":
    main()
