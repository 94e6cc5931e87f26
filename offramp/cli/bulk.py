"""`offramp generate MODEL --input FILE --output FILE`: a file of prompts through one engine, a line a reply."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from offramp.cli.bulk_file import sole_writer
from offramp.cli.bulk_output import Kept, Output
from offramp.cli.bulk_progress import Tally, bulk_bar
from offramp.cli.bulk_prompts import Reader, Task, count_lines, read_lines
from offramp.cli.bulk_replies import answers
from offramp.cli.bulk_settings import settings_digest
from offramp.cli.engines import engine_of
from offramp.cli.failures import FAILED, INTERRUPTED
from offramp.cli.generation import remark_on, request_for, say
from offramp.cli.options import Choosing, Leaving, Many, Reply, Where
from offramp.cli.threads import use_threads
from offramp.engine.engine import DEFAULT_MAX_LEN, Engine
from offramp.engine.reply import TokenEvent
from offramp.engine.request import Sampling
from offramp.errors import UsageError
from offramp.zoo.bundled import load


def run(model: str, many: Many, reply: Reply, leaving: Leaving, choosing: Choosing, where: Where) -> int:
    """Generate what is not in the output yet; the exit code. Raises the library's errors.

    A line that cannot be served has its error in the output, and makes the exit code 1 in the end.
    """
    assert many.input is not None and many.output is not None
    if many.output.exists() and many.output.samefile(many.input):
        raise UsageError("--output is the --input; name another file.")
    sampling, total = Sampling(**asdict(choosing)), count_lines(many.input)
    # Both are opened before anything that takes time.
    with many.input.open("rb") as prompts, sole_writer(many.output) as file:
        checkpoint = load(model, leaving.exits, leaving.exits_at, dtype=where.dtype, device=where.device)
        base = request_for(checkpoint, (0,), reply, leaving, sampling)
        max_len = min(many.max_len or DEFAULT_MAX_LEN, checkpoint.model.config.context_length)
        more = {"chat": reply.chat, "tier": reply.tier, "dtype": where.dtype, "max_len": max_len}
        output = Output(many.output, file, settings_digest(checkpoint, base, **more))
        lines = read_lines(prompts)
        kept = output.kept(lines)
        use_threads(checkpoint.model, where.threads)
        engine = engine_of(
            checkpoint,
            max_len,
            slots=many.slots,
            memory=many.memory,
            tier=reply.tier,
            drafts=leaving.drafts,
        )
        engine.admission.check(base)  # what no line could be served with is said at once
        if remark := remark_on(checkpoint, model, leaving, base):
            say(remark)
        reader = Reader(checkpoint, base, reply.chat, engine.admission.check, output.key)
        tally = Tally(total, kept.lines, kept.lines, kept.errors, checkpoint.model.config.num_blocks)
        return _write(engine, map(reader.task, lines), output, kept, tally)


def _write(engine: Engine, tasks: Iterator[Task], output: Output, kept: Kept, tally: Tally) -> int:
    """Write answers as they come, and say in the end what there is."""
    try:
        with bulk_bar(tally) as show:

            def seen(events: Sequence[TokenEvent]) -> None:
                tally.count(events)
                show()

            for answer in output.write(kept, answers(engine, tasks, seen)):
                tally.lines += 1
                tally.errors += answer.failed
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough: nothing is left but to end
        say(f"interrupted: {_there(tally, output.path)}; the same command goes on from there")
        return INTERRUPTED
    say(f"{_there(tally, output.path)} · {tally.speed()}" if tally.tokens else _there(tally, output.path))
    return FAILED if tally.errors else 0


def _there(tally: Tally, path: Path) -> str:
    errors = f" (errors: {tally.errors})" if tally.errors else ""
    return f"{tally.lines} of {tally.total} lines are in {path}{errors}"
