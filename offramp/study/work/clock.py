"""Wall clock, beside its own control: the one kind of job that nothing may run beside."""

from __future__ import annotations

import platform
from functools import partial
from typing import Any

from offramp.evaluation.replies import replies
from offramp.evaluation.setting import FULL, Setting
from offramp.evaluation.wallclock import ratios
from offramp.study.inputs import spread
from offramp.study.work.context import Context, engine, text_of
from offramp.study.work.free import tuned

TIMED = ("verify", "defer", "project", "skip")


def clock(context: Context) -> dict[str, Any]:
    """settings: model, arm, share, prompts. One prompt at a time, nothing padded; ratios to full depth's seconds."""
    settings = context.settings
    checkpoint = context.checkpoint(settings["arm"])
    assert checkpoint.exits is not None
    bar = tuned(context.needed, settings["arm"])["points"][f"{settings['share']:g}"]["bar"]
    asked = [item for item in context.items(text_of(checkpoint)) if not item.prompt.ends]
    asked = spread(asked, settings["prompts"]) or context.items(text_of(checkpoint))[: settings["prompts"]]
    plain = engine(checkpoint, (), asked, slots=1, tier="fast")
    exits = engine(checkpoint, tuple(checkpoint.exits), asked, slots=1, tier="fast")
    turns = []
    for item in asked:
        turn = {FULL.name: partial(replies, plain, FULL, [item.prompt])}
        for name in TIMED:
            setting = Setting(name, name, thresholds=(bar,))
            turn[name] = partial(replies, exits, setting, [item.prompt])
        turns.append(turn)
    found = ratios(turns, FULL.name, lambda _: None)
    return {"ratios": found, "processor": platform.machine(), "prompts": len(asked), "bar": bar}
