"""Exits of a model that was trained to leave early but has no gates (LayerSkip): for policies that ask none.

The gate abstains. It lies outside `gates/` because it is nothing to train or to choose, and it has no weights, so
that no random number ever decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

from torch import Tensor

from offramp.exits.base import Exit, ExitConfig, Gate
from offramp.exits.bridges.none import NoBridge
from offramp.exits.exit_set import ExitSet
from offramp.exits.positions import check_positions
from offramp.exits.trunk import Trunk
from offramp.mixers.base import Mixer
from offramp.mixers.identity import Identity


class Abstaining(Gate):
    """No weights; its logit is minus infinity, so its value is 0: under no threshold would it let a token leave."""

    abstains: ClassVar[bool] = True

    def __init__(self) -> None:
        Trunk.__init__(self)  # the bare one

    def make_mixer(self, width: int) -> Mixer:
        return Identity()

    def value(self, y: Tensor) -> Tensor:
        return y.new_full(y.shape[:-1], -math.inf)


def untrained_exits(after: Sequence[int], num_blocks: int, hidden_size: int) -> ExitSet:
    """Exits after these blocks that abstain, read by the shared norm and head (bridge "none").

    Raises UsageError for positions that do not ascend inside the model.
    """
    check_positions(after, num_blocks)
    config = ExitConfig("abstaining", "none", tuple(after), hidden_size, norm_eps=1e-5)
    return ExitSet(config, [Exit(block, Abstaining(), NoBridge(config)) for block in after]).eval()


def abstain(exits: Iterable[Exit]) -> bool:
    """Whether any of these exits has no gate to ask."""
    return any(exit.gate.abstains for exit in exits)
