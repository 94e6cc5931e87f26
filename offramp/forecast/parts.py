"""What one token costs in each part of a model with one exit, from shapes alone: bytes, FLOPs, state.

A model on the meta device will do: no weight is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from offramp.evaluation.cost import Cost, part_costs
from offramp.evaluation.leaving import leaving_costs
from offramp.exits.base import ExitConfig
from offramp.exits.exit_set import ExitSet, build_exits
from offramp.exits.untrained import untrained_exits
from offramp.forecast.agreement import LAST_BLOCK
from offramp.forecast.bound import Reads
from offramp.models.base import Model
from offramp.models.shapes import shapes_only
from offramp.propagation.base import Propagation
from offramp.registry import find, names

NOTHING = "skip"
"""The propagation that settles deeper blocks for nothing: what others cost more is the settling."""


@dataclass(frozen=True)
class Parts:
    """Costs of one token, `context` tokens into a sequence. gate: an exit's run, its bridge `none` included. drafts:
    what a judged draft reads of the head where that is a short list; None is all of it.

    settle: by propagation and exit, what a token that leaves costs the deeper blocks at once, nothing where it waits;
    propagations that do not serve these blocks are missing.
    """

    blocks: tuple[Cost, ...]
    head: Cost
    gate: Cost
    settle: Mapping[str, Mapping[int, Cost]]
    context: int
    drafts: Cost | None = None

    def leaves(self, judged: bool) -> Cost:
        """The head as a token that leaves reads it."""
        return self.drafts if judged and self.drafts is not None else self.head

    def span(self, start: int, stop: int) -> Cost:
        """Of blocks `start` to `stop`, the last excluded."""
        return sum(self.blocks[start:stop], Cost())

    def reads(self, after: int, bridge: str) -> Reads:
        """Weights of a decode pass around an exit there."""
        return Reads(
            self.span(0, after).weight_bytes,
            self.span(after, len(self.blocks)).weight_bytes,
            self.head.weight_bytes,
            self.gate.weight_bytes,
            self.borrowed(bridge).weight_bytes,
            None if self.drafts is None else self.drafts.weight_bytes,
        )

    def borrowed(self, bridge: str) -> Cost:
        """What the bridge runs of the model."""
        return self.blocks[-1] if bridge == LAST_BLOCK else Cost()


def parts_of(model: Model, gate: ExitConfig, after: Sequence[int], context: int = 0) -> Parts:
    """gate: what the exits will be made of; its own positions play no part.

    Raises UnknownName for a gate that does not exist.
    """
    blocks, width = len(model.blocks), model.config.hidden_size
    costs = part_costs(model, gate_shapes(model, gate), context)
    leaving = leaving_costs(model, untrained_exits(after, blocks, width), context)
    settle = {name: _settling(name, leaving.after) for name in names("offramp.propagation")}
    return Parts(
        tuple(costs[f"blocks.{i}"]["run"] for i in range(blocks)),
        costs["head"]["run"],
        costs["exits.0.gate"]["run"],
        {name: by_exit for name, by_exit in settle.items() if by_exit},
        context,
        costs["draft_head"]["run"] if "draft_head" in costs else None,
    )


def _settling(name: str, after: Mapping[int, Mapping[str, Cost | None]]) -> dict[int, Cost]:
    """By exit, in what it costs more than doing nothing."""
    if find("offramp.propagation", name, Propagation).waits:
        return dict.fromkeys(after, Cost())
    pairs = {at: (costs[name], costs[NOTHING]) for at, costs in after.items()}
    return {at: mine - nothing for at, (mine, nothing) in pairs.items() if mine and nothing}


def gate_shapes(model: Model, gate: ExitConfig) -> ExitSet:
    """The exits as shapes, in the model's number format."""
    with shapes_only():
        return build_exits(gate).to(next(model.parameters()).dtype)
