"""An engine for many prompts, as the options ask for it."""

from __future__ import annotations

from offramp.cli.generation import say
from offramp.engine.engine import Engine
from offramp.engine.load import Checkpoint
from offramp.engine.memory import slots_within

MOST_SLOTS = 16
"""When nobody says how many: more rows at a time gain little on a CPU."""


def engine_of(
    checkpoint: Checkpoint,
    max_len: int,
    *,
    slots: int | None,
    memory: int | None,
    tier: str,
    drafts: int | str,
) -> Engine:
    """Of the checkpoint, with as many slots as asked for, or as fit the memory."""
    if slots is None:
        fit = slots_within(checkpoint.model, tuple(checkpoint.exits or ()), max_len, memory)
        slots = min(MOST_SLOTS, fit)
    return Engine(
        *(checkpoint.model, checkpoint.exits, checkpoint.text),
        slots=slots,
        max_len=max_len,
        memory=memory,
        tier=tier,
        drafts=drafts,
        progress=say,
    )
