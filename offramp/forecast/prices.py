"""What the head, gates and bridges cost beside a block: for one token of one row.

Gates are built with fresh weights: what they cost does not depend on what they learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from offramp.engine.timings import measure
from offramp.evaluation.cost import Cost, part_costs
from offramp.exits.base import Bridge, ExitConfig, Gate
from offramp.exits.exit_set import build_exits
from offramp.forecast.device import Described
from offramp.forecast.parts import gate_shapes
from offramp.models.base import Block, Model
from offramp.registry import find, names

Run = Callable[[], None]
REPEATS = 25
ROOM = 32
"""Tokens of a state that holds one."""
LINEAR = "linear"
"""The gate beside which bridges are priced; what it costs is taken away."""


@dataclass(frozen=True)
class Price:
    """weights: bytes. flops_share: operations, as a share of the first block's. microseconds: None where nothing can
    be timed."""

    name: str
    parameters: int
    weights: int
    flops_share: float
    microseconds: float | None


@dataclass(frozen=True)
class Priced:
    """What is priced: its cost by shapes, and what makes a run of one token through it."""

    name: str
    parameters: int
    cost: Cost
    make: Callable[[], Run]


def prices(model: Model, config: ExitConfig, clock: Described | None = None) -> list[Price]:
    """The first block (what `last_block` runs costs as much), the head, every gate at the config's width and at the
    model's own, every bridge with weights.

    clock: a described device. Without one a model that has weights is timed on this machine.
    """
    costs = part_costs(model)
    block, of_block = cast(Block, model.blocks[0]), costs["blocks.0"]["run"]
    has_weights = not next(model.parameters()).is_meta

    def price(item: Priced) -> Price:
        if clock is not None:
            seconds: float | None = clock.seconds(item.cost)
        else:
            seconds = _seconds(item) if has_weights else None
        share = _operations(item.cost) / max(1, _operations(of_block))
        micro = None if seconds is None else seconds * 1e6
        return Price(item.name, item.parameters, item.cost.weight_bytes, share, micro)

    items = [
        Priced("block", _size(block), of_block, lambda: _part(model, block)),
        Priced("head", _size(model.norm, model.head), costs["head"]["run"], lambda: _head(model)),
        *_gates(model, config),
        *_bridges(model, config),
    ]
    return [price(item) for item in items]


def _operations(cost: Cost) -> int:
    return cost.flops + cost.pointwise


def _size(*modules: nn.Module) -> int:
    return sum(weight.numel() for module in modules for weight in module.parameters())


def _gates(model: Model, config: ExitConfig) -> Iterator[Priced]:
    """Widths at which a gate is the same are told once."""
    bare = replace(config, bridge="none", after=(1,))
    for name in names("offramp.exits.gates"):
        seen = set[int]()
        for width in (config.bottleneck, None):
            item = _gate(model, replace(bare, gate=name, bottleneck=width))
            if item.parameters not in seen:
                yield item
            seen.add(item.parameters)


def _gate(model: Model, config: ExitConfig) -> Priced:
    exits = gate_shapes(model, config)
    inner = next(iter(exits)).gate.inner_width(config)
    name = f"gate {config.gate}, width {inner}" if inner else f"gate {config.gate}, full width"
    cost = part_costs(model, exits)["exits.0.gate"]["run"]
    return Priced(name, _size(exits), cost, lambda: _part(model, next(iter(build_exits(config))).gate))


def _bridges(model: Model, config: ExitConfig) -> Iterator[Priced]:
    bare = replace(config, gate=LINEAR, bridge="none", after=(1,))
    alone = part_costs(model, gate_shapes(model, bare))["exits.0.gate"]["run"]
    for name in names("offramp.exits.bridges"):
        mine = replace(bare, bridge=name)
        exits = gate_shapes(model, mine)
        bridge = next(iter(exits)).bridge
        if find("offramp.exits.bridges", name, Bridge).borrows_last_block or not _size(bridge):
            continue
        cost = part_costs(model, exits)["exits.0.gate"]["run"] - alone
        yield Priced(f"bridge {name}", _size(bridge), cost, _maker(model, mine))


def _maker(model: Model, config: ExitConfig) -> Callable[[], Run]:
    return lambda: _part(model, next(iter(build_exits(config))).bridge)


# ---- one token through each, on this machine


@torch.inference_mode()
def _seconds(item: Priced) -> float:
    run = item.make()
    return measure(lambda _: run(), [1], REPEATS).seconds(1)


def _hidden(model: Model) -> Tensor:
    """`[1, D]`, as blocks pass it on."""
    return model.embed(torch.zeros(1, dtype=torch.long, device=next(model.parameters()).device))


def _head(model: Model) -> Run:
    h_ND = _hidden(model)

    def run() -> None:
        model.logits(h_ND)

    return run


def _part(model: Model, module: Block | Gate | Bridge) -> Run:
    """A token after another, each forgotten."""
    weight, h_ND = next(model.parameters()), _hidden(model)
    module = module.to(weight.device, weight.dtype).eval()
    state = module.mixer.init_state(1, ROOM)

    def run() -> None:
        module(h_ND, state, [0], [1])
        module.mixer.rollback(state, [0])

    return run
