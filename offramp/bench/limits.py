"""How long an answer may take: many times what it takes on a busy machine, so that one that never comes is noticed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from offramp.bench.contender import Job, Prompt

Limit = Callable[[str, Job, Sequence[Prompt]], float]
"""Seconds for what is asked ("ready", "turn", "bound") of a job with these prompts."""

BEGIN = {"ready": 600.0, "turn": 120.0, "bound": 300.0}
"""Seconds beside the passes: to load, write another format and compile; to read memory; to time cycles."""
TIMES = {"ready": 1, "turn": 1, "bound": 2}
"""How often the prompts are run: the bound records two policies."""
SLOWEST = 1e9
"""Bytes of weights a second, of a machine that is still worth waiting for."""
PASS = 0.25
"""Seconds of a pass of any size, beside its weights."""


def seconds_for(what: str, job: Job, prompts: Sequence[Prompt]) -> float:
    """Of one answer: as if every token, also of a prompt, read all weights from slow memory."""
    passes = TIMES[what] * sum(len(prompt) + job.tokens + 1 for prompt in prompts)
    return BEGIN[what] + passes * (PASS + _stored(job) / SLOWEST)


def _stored(job: Job) -> int:
    """Bytes of the checkpoint's weights."""
    return sum(file.stat().st_size for file in job.folder.glob("*.safetensors"))
