"""Measure trained arms, or policies that need no training, on the tuning texts, teacher-forced."""

from __future__ import annotations

from typing import Any

from offramp.evaluation.oracle import oracle_depths, oracle_work
from offramp.exits.positions import default_positions
from offramp.exits.untrained import untrained_exits
from offramp.policies.base import ExitPolicy, ScorePolicy
from offramp.registry import find
from offramp.study.inputs import beginnings
from offramp.study.tune import gates_said, measured, scores_said
from offramp.study.work.context import Context, text_of
from offramp.training.exit_config import ExitTrainConfig


def tune(context: Context) -> dict[str, Any]:
    """settings: arms, texts, length, shares. By arm what `tune.measured` says of its gates."""
    checkpoint, settings = context.checkpoint(), context.settings
    texts = beginnings(
        context.place.tune, text_of(checkpoint), settings["texts"], _longest(checkpoint.model, settings)
    )
    sets = {arm: context.exits(context.arm_folder(arm)) for arm in settings["arms"]}
    said = gates_said(checkpoint.model, sets, texts, ExitTrainConfig())
    return {"tuned": {arm: measured(one, settings["shares"]) for arm, one in said.items()}}


def scores(context: Context) -> dict[str, Any]:
    """settings: policies, texts, length, shares. By policy the same; and what an oracle would save of the replies."""
    checkpoint, settings = context.checkpoint(), context.settings
    model, text = checkpoint.model, text_of(checkpoint)
    texts = beginnings(context.place.tune, text, settings["texts"], _longest(model, settings))
    after = default_positions(model.config.num_blocks)
    asked = [name for name in settings["policies"] if _has_score(name)]
    said = scores_said(model, after, asked, texts)
    return {
        "tuned": {name: measured(one, settings["shares"]) for name, one in said.items()},
        "oracle": _oracle(context),
    }


def _has_score(policy: str) -> bool:
    """Random leaves at the rates of a gate, which are no score's."""
    return policy != "random" and issubclass(find("offramp.policies", policy, ExitPolicy), ScorePolicy)


def _oracle(context: Context) -> dict[str, Any]:
    """Where the full model's own tokens could have left: counts by depth, and of each prompt the blocks saved."""
    checkpoint = context.checkpoint()
    model, blocks = checkpoint.model, checkpoint.model.config.num_blocks
    exits = untrained_exits(default_positions(blocks), blocks, model.config.hidden_size)
    depths: dict[str, int] = {}
    work = []
    for item, reply in zip(context.items(text_of(checkpoint)), context.full(), strict=True):
        found = oracle_depths(model, exits, item.prompt.tokens, reply.tokens)
        work.append(oracle_work(found, blocks, runs_last_block=False))
        for depth in found[1:]:
            depths[str(depth)] = depths.get(str(depth), 0) + 1
    return {"depths": depths, "blocks_skipped": work}


def _longest(model: Any, settings: Any) -> int:
    return min(settings["length"], model.config.context_length)
