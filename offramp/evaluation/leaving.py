"""What a token that leaves costs under each propagation, beside one that every block computes.

Nothing is declared here either: the engine decodes with a silent model, whose parts compute nothing and are counted as
the real ones are, once with a token that leaves and once without. What it did more, at what the parts cost, is that
token's. So a new propagation has its cost the moment it exists.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from offramp.engine.engine import Engine
from offramp.engine.reply import Generation
from offramp.engine.request import Request
from offramp.errors import UsageError
from offramp.evaluation.cost import Cost, Costs, part_costs, run_cost
from offramp.exits.base import Bridge, Exit, Gate
from offramp.exits.bridges.none import NoBridge
from offramp.exits.short_list import ShortList
from offramp.exits.trunk import Trunk
from offramp.mixers.base import Mixer
from offramp.mixers.identity import Identity
from offramp.models.base import Block, Model, ModelConfig
from offramp.registry import names


@dataclass(frozen=True)
class Leaving:
    """Costs of one token each. after: of a token that leaves there, under each propagation; None where none leaves
    there, as drafts leave the first exit alone, and where the propagation does not serve these blocks. full: of a token
    at full depth in a model without exits."""

    after: Mapping[int, Mapping[str, Cost | None]]
    full: Cost


def leaving_costs(model: Model, exits: Iterable[Exit], context: int = 0) -> Leaving:
    """What one token costs that leaves, at each exit and under each propagation, `context` tokens into a sequence.

    The gates it passed, the bridge, the head and what the deeper blocks still do for it are counted. Where a token
    waits, deeper blocks take it in one chunk with the next token that stays: they compute for both and read weights
    and state once, and that reading is the other's. A model on the meta device may be asked.
    """
    exits = tuple(exits)
    costs = part_costs(model, exits, context)
    plain = _silent(model)
    full = run_cost(_reply(plain, 2).stats, costs) - run_cost(_reply(plain, 1).stats, costs)
    found = {exit.after: _at(_silent(model, exits, leave=i), costs) for i, exit in enumerate(exits)}
    return Leaving(found, full)


def _at(engine: Engine, costs: Costs) -> dict[str, Cost | None]:
    """By propagation, where one exit lets every token leave and the others none."""
    return {name: _of(engine, costs, name) for name in names("offramp.propagation")}


def _of(engine: Engine, costs: Costs, propagation: str) -> Cost | None:
    """A token that leaves and one that stays, less one that stays."""
    try:
        both = _reply(engine, 3, propagation)
    except UsageError:  # copy_block over blocks of several shapes
        return None
    if not (both.stats.drafts or any(event.depth < engine.frontier.depth(None) for event in both.events)):
        return None
    return run_cost(both.stats, costs) - run_cost(_reply(engine, 2, propagation, "never").stats, costs)


def _reply(engine: Engine, tokens: int, propagation: str = "verify", policy: str = "gate") -> Generation:
    """One of so many tokens; the prompt gives the first, and of two that follow only one may leave."""
    request = Request((0,), propagation, policy, run_max=1, max_tokens=tokens, ignore_eos=True)
    return engine.generate(request)


def _silent(model: Model, exits: Sequence[Exit] = (), leave: int = 0) -> Engine:
    """Of the model's parts and exits without what they compute; tokens leave at exit number `leave`."""
    config = ModelConfig(model.config.model_type, 1, 1, len(model.blocks), 8, 1.0, False, None, ())
    blocks = [Block(nn.Identity(), _Silent(cast(Block, block).mixer), None, None) for block in model.blocks]
    embed = nn.Embedding.from_pretrained(torch.zeros(1, 1))
    silent = [
        Exit(exit.after, _Certain(exit.gate, leave=i == leave), _bridge(exit.bridge), _short_list(exit))
        for i, exit in enumerate(exits)
    ]
    head = nn.Linear(1, 1, bias=False)
    head.weight = nn.Parameter(torch.zeros(1, 1))
    return Engine(Model(config, embed, blocks, nn.Identity(), head), silent, tier="fast")


def _short_list(exit: Exit) -> ShortList | None:
    """Of the only token, where the exit has one."""
    return None if exit.short_list is None else ShortList(torch.zeros(1))


class _Silent(Identity):
    """Counts tokens; to propagations it looks like the mixer whose place it takes."""

    remembers: ClassVar[bool] = True

    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self._kind = mixer.entry_kind

    @property
    def entry_kind(self) -> Hashable | None:
        return self._kind


def _mixer(trunk: Trunk) -> Mixer:
    return _Silent(trunk.mixer) if trunk.mixer.remembers else Identity()


class _Certain(Gate):
    """Every token leaves, or none."""

    def __init__(self, gate: Gate, leave: bool) -> None:
        Trunk.__init__(self)
        self.mixer, self.logit = _mixer(gate), math.inf if leave else -math.inf

    def make_mixer(self, width: int) -> Mixer:
        return Identity()

    def value(self, y: Tensor) -> Tensor:
        return y.new_full(y.shape[:-1], self.logit)


class _Mute(NoBridge):
    def __init__(self, bridge: Bridge) -> None:
        Trunk.__init__(self)
        self.mixer = _mixer(bridge)


class _Borrowing(_Mute):
    borrows_last_block: ClassVar[bool] = True


def _bridge(bridge: Bridge) -> Bridge:
    return _Borrowing(bridge) if bridge.borrows_last_block else _Mute(bridge)
