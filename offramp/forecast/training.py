"""What training the exits would take, as `offramp train` does it where nobody says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from offramp.data.documents import Documents, Encode, Ids
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import build_exits
from offramp.exits.positions import default_positions
from offramp.models.base import Model
from offramp.training.estimate import estimate
from offramp.training.exit_config import ExitTrainConfig

TOKENS = 1 << 15
"""Enough to try steps of training on."""


@dataclass(frozen=True)
class TrainingCost:
    """seconds, peak_bytes: None where no step could be tried, or memory would not do."""

    after: tuple[int, ...]
    steps: int
    tokens: int
    seconds: float | None
    peak_bytes: int | None


def training_cost(model: Model, gate: ExitConfig, texts: Sequence[str], encode: Encode) -> TrainingCost:
    """Gates as assumed after the usual blocks, for the usual steps. Some steps are tried, on a copy of nothing but the
    exits; the model's weights are frozen, as in training."""
    blocks, config = len(model.blocks), ExitTrainConfig()
    config = replace(config, window=min(config.window, model.config.context_length))
    after = default_positions(blocks)
    found = estimate(
        model, build_exits(replace(gate, after=after), blocks), config, _some(texts, encode, config.window)
    )
    return TrainingCost(
        after, config.steps, config.steps * config.tokens_per_step, found.seconds, found.peak_bytes
    )


def _some(texts: Sequence[str], encode: Encode, window: int) -> Documents:
    """About TOKENS ids, no window of a text twice; short data is taken again and again."""
    held: list[Ids] = []
    for text in texts:
        ids = encode(text[: TOKENS * 4])
        held += [ids[at : at + window] for at in range(0, len(ids), window)]
        if sum(map(len, held)) >= TOKENS:
            break
    found = [ids for ids in held if len(ids) > 1]
    return Documents(found * -(-TOKENS // max(1, sum(map(len, found)))), found[:1], "")
