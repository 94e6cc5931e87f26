"""Which modules have static steps, and those of a mixer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from offramp.exits.base import Exit
from offramp.exits.untrained import Abstaining
from offramp.graphs.attention import StaticAttention
from offramp.graphs.mamba import StaticMamba
from offramp.graphs.mamba2 import StaticMamba2
from offramp.graphs.static import Static
from offramp.lowering.exits import BRIDGES, GATES
from offramp.mixers.attention import Attention
from offramp.mixers.base import Mixer, State
from offramp.mixers.mamba import Mamba
from offramp.mixers.mamba2 import Mamba2
from offramp.models.base import Block, Model
from offramp.models.families.gpt_neox import ParallelBlock
from offramp.native.quantised_weight import QuantisedWeight

STATICS: dict[type[Mixer], Any] = {Attention: StaticAttention, Mamba: StaticMamba, Mamba2: StaticMamba2}
BLOCKS = (Block, ParallelBlock)
"""Blocks that hand their state to the mixer and ask it nothing."""
TRUNKS = (*GATES, *BRIDGES, Abstaining)


def static(mixer: Mixer, state: State) -> Static:
    return cast(Static, STATICS[type(mixer)](mixer, state))


def why_not_static(model: Model, exits: Sequence[Exit] = ()) -> str:
    """Why there are no static steps of these, in a sentence; "" where there are. A subclass may do something else."""
    blocks = cast(Sequence[Block], model.blocks)
    trunks = [part for exit in exits for part in (exit.gate, exit.bridge)]
    mixers = [part.mixer for part in (*blocks, *trunks) if part.mixer.remembers]
    for parts, known in ((blocks, BLOCKS), (trunks, TRUNKS), (mixers, tuple(STATICS))):
        for part in parts:
            if type(part) not in known:
                return f"{type(part).__name__} has no static step"
    if any(isinstance(weight, QuantisedWeight) for weight in model.parameters()):
        return "quantised weights have no static steps"
    return ""
