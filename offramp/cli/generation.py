"""From the options of `offramp generate` to an engine, a request and a display."""

from __future__ import annotations

import sys
from dataclasses import asdict

from rich.console import Console

from offramp.cli.options import Choosing, Leaving, Reply, Where
from offramp.cli.streaming import Display, JsonLines, ShadedText, show
from offramp.engine.engine import Engine
from offramp.engine.load import Checkpoint, load
from offramp.engine.sequence import Request, Sampling
from offramp.errors import CheckpointError
from offramp.zoo.bundled import resolve


def run(model: str, prompt: str, reply: Reply, leaving: Leaving, choosing: Choosing, where: Where) -> None:
    """Load, generate, show. Raises the library's errors."""
    sampling = Sampling(**asdict(choosing))
    checkpoint = load(resolve(model), leaving.exits, leaving.exits_at, dtype=where.dtype, device=where.device)
    request = Request(
        prompt=encode(checkpoint, prompt, reply.chat),
        propagation=leaving.propagation,
        policy=leaving.policy,
        thresholds=thresholds(checkpoint, leaving),
        run_max=leaving.run_max,
        sampling=sampling,
        max_tokens=reply.max_tokens,
        stop=reply.stop,
    )
    room = len(request.prompt) + reply.max_tokens
    engine = Engine(
        checkpoint.model, tuple(checkpoint.exits or ()), checkpoint.text, max_len=room, tier=reply.tier
    )
    if checkpoint.exits is None and leaving.exits != "none":
        print(
            f"{model} has no exits, so every token goes all the way. `offramp train {model} --data FILE` "
            "trains them.",
            file=sys.stderr,
        )
    blocks = checkpoint.model.config.num_blocks
    show(engine.stream(request), display_for(checkpoint, reply.json), blocks, engine.tier.name)


def encode(checkpoint: Checkpoint, prompt: str, chat: bool) -> tuple[int, ...]:
    """The prompt's tokens. Raises CheckpointError without a tokenizer, UsageError without a chat template."""
    text = checkpoint.text
    if text is None:
        raise CheckpointError(
            f"{checkpoint.folder} has no tokenizer.json and cannot read a prompt. transformers writes one: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(folder)."
        )
    return tuple(text.encode(text.chat([{"role": "user", "content": prompt}]) if chat else prompt))


def thresholds(checkpoint: Checkpoint, leaving: Leaving) -> tuple[float, ...]:
    """Those asked for, else those the exits suggest, else one half."""
    if leaving.threshold is not None:
        return leaving.threshold
    suggested = checkpoint.info.thresholds if checkpoint.info else ()
    fits = checkpoint.exits is not None and len(suggested) == len(checkpoint.exits)
    return suggested if suggested and fits else (0.5,)


def display_for(checkpoint: Checkpoint, json: bool) -> Display:
    """JSON lines, or shaded text with a legend of this checkpoint's exits."""
    if json:
        return JsonLines(Console())
    depths = checkpoint.exits.after if checkpoint.exits is not None else ()
    return ShadedText(Console(), Console(stderr=True), depths, checkpoint.model.config.num_blocks)
