"""The exits whose costs `offramp inspect` tells: those that `offramp generate` would take, else untrained ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from offramp.engine.engine import DEFAULT_MAX_LEN
from offramp.engine.load import UNTRAINED, find_exits
from offramp.errors import ExitsError
from offramp.evaluation.leaving import Leaving, leaving_costs
from offramp.exits.exit_set import ExitSet
from offramp.exits.positions import default_positions
from offramp.exits.store import load_exits
from offramp.exits.untrained import untrained_exits
from offramp.models.base import Model


@dataclass(frozen=True)
class LeavingFound:
    """exits: the set's name. context: tokens before the one whose costs these are; attention's grow with them."""

    exits: str
    gate: str
    bridge: str
    context: int
    costs: Leaving


def leaving_found(folder: Path, model: Model) -> LeavingFound | None:
    """In the middle of what the engine holds of a sequence. None for a single block, which nothing can leave."""
    if not default_positions(model.config.num_blocks):
        return None
    name, exits = _exits(folder, model)
    context = min(DEFAULT_MAX_LEN, model.config.context_length) // 2
    config = exits.config
    return LeavingFound(name, config.gate, config.bridge, context, leaving_costs(model, exits, context))


def _exits(folder: Path, model: Model) -> tuple[str, ExitSet]:
    weight = next(model.parameters())
    try:
        if path := find_exits(folder, None):
            return path.name, load_exits(path, model, weight.dtype, weight.device)[0]
    except ExitsError:
        pass  # the table of exits says what is wrong with them
    blocks = model.config.num_blocks
    return UNTRAINED, untrained_exits(default_positions(blocks), blocks, model.config.hidden_size)
