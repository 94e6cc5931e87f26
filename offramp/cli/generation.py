"""From the options of `offramp generate` to an engine, a request and a display."""

from __future__ import annotations

import sys
from dataclasses import asdict

from rich.console import Console

from offramp.cli.harmless import harmless
from offramp.cli.options import Choosing, Leaving, Reply, Where
from offramp.cli.promises import promised, stated
from offramp.cli.streaming import Display, JsonLines, ShadedText, Summary, show
from offramp.cli.threads import use_threads
from offramp.engine.engine import Engine
from offramp.engine.load import Checkpoint
from offramp.engine.reply import not_numbers
from offramp.engine.request import Request, Sampling
from offramp.errors import CheckpointError, OfframpError
from offramp.policies.base import ExitPolicy
from offramp.registry import find
from offramp.zoo.bundled import load


def run(model: str, prompt: str, reply: Reply, leaving: Leaving, choosing: Choosing, where: Where) -> None:
    """Load, generate, show. Raises the library's errors."""
    sampling = Sampling(**asdict(choosing))
    checkpoint = load(model, leaving.exits, leaving.exits_at, dtype=where.dtype, device=where.device)
    request = request_for(checkpoint, encode(checkpoint, prompt, reply.chat), reply, leaving, sampling)
    use_threads(checkpoint.model, where.threads)
    engine = Engine(
        *(checkpoint.model, checkpoint.exits, checkpoint.text),
        max_len=len(request.prompt) + reply.max_tokens,
        tier=reply.tier,
        drafts=leaving.drafts,
        progress=say,
    )
    events = engine.stream(request)
    if remark := remark_on(checkpoint, model, leaving, request):
        say(remark)  # before the first token, in a pipe too
    blocks = checkpoint.model.config.num_blocks
    shown = show(events, display_for(checkpoint, reply.json), blocks, engine.tier.name)
    if shown.finish == "nan":
        raise OfframpError(not_numbers(shown.tokens))
    if undrafted(checkpoint, request, leaving, shown):
        say(
            "nothing was drafted: no exit was sure enough, or drafts would not pay here (--drafts 8 tries them)."
        )


def undrafted(checkpoint: Checkpoint, request: Request, leaving: Leaving, shown: Summary) -> bool:
    """Whether a reader who expected shades should be told why there are none."""
    expected = checkpoint.exits is not None and request.propagation == "verify" and shown.tokens > 1
    return expected and leaving.drafts == "auto" and shown.accepted is None


def request_for(
    checkpoint: Checkpoint, prompt: tuple[int, ...], reply: Reply, leaving: Leaving, sampling: Sampling
) -> Request:
    """What the options ask of a prompt's tokens. Raises UsageError as `promised` does."""
    request = Request(
        prompt=prompt,
        propagation=leaving.propagation,
        policy=leaving.policy,
        thresholds=thresholds(checkpoint, leaving),
        run_max=leaving.run_max,
        sampling=sampling,
        max_tokens=reply.max_tokens,
        stop=reply.stop,
    )
    return promised(checkpoint, request, leaving)


def say(line: str) -> None:
    """To stderr."""
    print(harmless(line), file=sys.stderr, flush=True)


def remark_on(checkpoint: Checkpoint, model: str, leaving: Leaving, request: Request) -> str:
    """What a user should know of the exits before reading the reply; "" if nothing."""
    if request.certificate is not None:
        return stated(request.certificate)
    if checkpoint.exits is None:
        if leaving.exits == "none":
            return ""
        return (
            f"{model} has no exits, so every token goes all the way. `offramp train {model} --data FILE` "
            "trains them; --exits untrained --policy confidence asks the model's own head instead."
        )
    trained = checkpoint.info.propagation if checkpoint.info else leaving.propagation
    if trained == leaving.propagation:
        return ""
    return (
        f"note: these exits were trained for {trained}; under {leaving.propagation} their gates may be surer "
        "than they should be."
    )


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
    """Those asked for, else the policy's own: for gates those the exits suggest, where they do."""
    if leaving.threshold is not None:
        return leaving.threshold
    suggested = checkpoint.info.thresholds if checkpoint.info else ()
    return find("offramp.policies", leaving.policy, ExitPolicy).default_thresholds(suggested)


def display_for(checkpoint: Checkpoint, json: bool) -> Display:
    """JSON lines, or shaded text with a legend of this checkpoint's exits."""
    if json:
        return JsonLines(Console())
    depths = checkpoint.exits.after if checkpoint.exits is not None else ()
    return ShadedText(Console(), Console(stderr=True), depths, checkpoint.model.config.num_blocks)
