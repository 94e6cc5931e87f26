"""What a generation cost in bytes and FLOPs, from the counts of the engine and what each part really touches.

Nothing is declared: every verb of every part runs once on the meta device, where tensors have shapes and no numbers,
and is watched. So a new mixer, gate, bridge or block has its true cost the moment it exists, and what `advance` leaves
out is left out. Neither padding nor the whole tiles of entries that attention reads in company are counted: they are
the exact tier's, not the method's. Nor is the embedding's one row.

Shapes: R rows, T tokens, N packed tokens, D width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from offramp.engine.reply import Stats
from offramp.exits.base import Exit
from offramp.mixers.base import CELL, Mixer, State
from offramp.models.base import Model
from offramp.models.likeness import likeness
from offramp.models.quantised import plain
from offramp.models.shortened import rows_of

Costs = dict[str, dict[str, "Cost"]]
"""By part ("blocks.3", "exits.0.gate", "exits.0.bridge", "head", "draft_head") and verb."""


@dataclass(frozen=True)
class Cost:
    """weight_bytes: of parameters, read once a pass. state_bytes: of the sequence's memory, read and written.

    flops: of matrix products, attention and convolutions, two a multiply-add. pointwise: results of elementwise
    operations, and terms of sums; the SSM's update is made of them.
    """

    weight_bytes: int = 0
    state_bytes: int = 0
    flops: int = 0
    pointwise: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.weight_bytes + other.weight_bytes,
            self.state_bytes + other.state_bytes,
            self.flops + other.flops,
            self.pointwise + other.pointwise,
        )

    def __sub__(self, other: Cost) -> Cost:
        return self + other.times(-1, -1)

    def times(self, passes: int, tokens: int) -> Cost:
        """Of so many passes over so many tokens: a chunk reads weights and state once, and computes for each token."""
        return Cost(
            self.weight_bytes * passes,
            self.state_bytes * passes,
            self.flops * tokens,
            self.pointwise * tokens,
        )


def run_cost(stats: Stats, costs: Costs) -> Cost:
    """Of a finished generation's decoding, prompt apart. costs: `part_costs` of the model and exits that ran."""
    total = costs["head"]["run"].times(stats.head_passes, stats.head_rows)
    for name, work in stats.work.items():
        for verb, passes in work.passes.items():
            total += costs[name][verb].times(passes, work.tokens[verb])
    return total


@torch.no_grad()
def part_costs(model: Model, exits: Iterable[Exit] = (), context: int = 0) -> Costs:
    """One token's cost in each verb of each part, after `context` tokens (attention's grows with them).

    The run of an exit, its gate and its bridge together, stands under its gate. "draft_head" is there where drafts,
    which leave the first exit alone, are chosen among some of the vocabulary.
    """
    exits = tuple(exits)
    embedded_ND = model.embed(torch.zeros(1, dtype=torch.long, device=next(model.parameters()).device))
    x_ND = torch.empty_like(embedded_ND, device="meta")
    known: dict[str, dict[str, Cost]] = {}

    def of(module: Any, watch: Callable[[Any, Tensor, int], dict[str, Cost]]) -> dict[str, Cost]:
        """Equal blocks are watched once."""
        key = likeness(module)
        if key not in known:
            known[key] = watch(_on_meta(module), x_ND, context)
        return known[key]

    costs = {f"blocks.{i}": of(block, _block_verbs) for i, block in enumerate(model.blocks)}
    for i, exit in enumerate(exits):
        meta = _on_meta(exit)
        costs[f"exits.{i}.gate"] = of(exit.gate, _verbs) | _run(meta, (meta.gate, meta.bridge), x_ND, context)
        costs[f"exits.{i}.bridge"] = of(exit.bridge, _verbs)
    top = _on_meta(_Top(model.norm, model.head))
    costs["head"] = top.cost(x_ND)
    short = exits[0].short_list if exits else None
    if short is not None and (rows := rows_of(top.head, short.ids)) is not None:
        costs["draft_head"] = _Top(top.norm, rows).cost(x_ND)
    return costs


class _Top(nn.Module):
    """The norm and a head alone."""

    def __init__(self, norm: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.norm, self.head = norm, head

    def cost(self, x_ND: Tensor) -> dict[str, Cost]:
        return {"run": _watched(lambda top: top.head(top.norm(x_ND)), self)}


def _block_verbs(block: Any, x_ND: Tensor, context: int) -> dict[str, Cost]:
    return _run(block, (block,), x_ND, context) | _verbs(block, x_ND, context)


def _run(module: Any, parts: Sequence[Any], x_ND: Tensor, context: int) -> dict[str, Cost]:
    """One token's run of a block, or of an exit: its gate and its bridge, which may share what they read.

    parts: those of the module that have a state each.
    """
    states = [_after(context, part, x_ND) for part in parts]
    return {"run": _watched(lambda m: m(x_ND, *states, [0], [1]), module, *states)}


def _verbs(module: Any, x_ND: Tensor, context: int) -> dict[str, Cost]:
    """A block's, gate's or bridge's cost of one token in each verb that `propagation.base.Part` counts, but "run"."""
    mixer: Mixer = module.mixer
    state = _after(context, module, x_ND)
    found = {"advance": _watched(lambda m: m.advance(x_ND, state, [0], [1]), module, state)}
    if mixer.entry_kind is not None:
        source = copy.deepcopy(state)
        module.advance(x_ND, source, [0], [1])
        found["copy_entries"] = _watched(
            lambda m: m.mixer.copy_entries(state, [0], [1], source), module, state, source
        )
        found["repeat_entry"] = _watched(lambda m: m.mixer.repeat_entry(state, [0], [1]), module, state)
    return found


def _after(context: int, module: Any, x_ND: Tensor) -> State:
    """A slot's state after so many tokens, in cells as the engine runs prompts. Without entries it stays one size."""
    state = module.mixer.init_state(1, context + CELL)
    if module.mixer.entry_kind is None:
        return state
    for start in range(0, context, CELL):
        module.prefill(x_ND.expand(min(CELL, context - start), -1)[None], state, [0])
    return state


def _watched(verb: Callable[[Any], object], module: nn.Module, *states: State) -> Cost:
    """What the verb of the module touches; the first state is left as it was."""
    watch = _Watch(
        plain(dict(module.named_parameters())).values(),
        [part for state in states for part in vars(state).values()],
    )
    with watch:
        verb(module)
    mixer = getattr(module, "mixer", None)
    if states and isinstance(mixer, Mixer):
        mixer.rollback(states[0], [0])
    return watch.cost()


_ATEN = torch.ops.aten
_NEW = {_ATEN.new_zeros, _ATEN.new_empty, _ATEN.zeros_like, _ATEN.empty_like}
"""These ask a tensor for its type alone."""
_TAKES = {_ATEN.index, _ATEN.index_select}
"""These read of their first tensor what they return."""
_PUTS = {_ATEN.index_copy_: 3, _ATEN.index_put_: 2}
"""These write into their first tensor what this argument holds."""


class _Watch(TorchDispatchMode):
    """Notes which parts of parameters and states operations read or write, and counts what they compute."""

    def __init__(self, weights: Iterable[Tensor], memory: Sequence[object]) -> None:
        super().__init__()
        self.weights = {_storage(weight) for weight in weights}
        self.memory = {_storage(part) for part in memory if isinstance(part, Tensor) and part.is_meta}
        self.touched: set[tuple[int, int, int]] = set()
        self.flops = self.pointwise = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out, packet = func(*args, **(kwargs or {})), func._overloadpacket
        if func.is_view or packet in _NEW:
            return out
        picked = out if packet in _TAKES else args[_PUTS[packet]] if packet in _PUTS else None
        for tensor in _tensors([args, kwargs or {}]):
            part = tensor if picked is None or tensor is not args[0] else picked
            self.touched.add((_storage(tensor), int(tensor.storage_offset()), _bytes(part)))
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        elif packet is _ATEN.sum:
            self.pointwise += args[0].numel()
        elif torch.Tag.pointwise in func.tags and isinstance(out, Tensor):
            self.pointwise += out.numel()
        return out

    def cost(self) -> Cost:
        weights, memory = (
            sum(size for storage, _, size in self.touched if storage in known)
            for known in (self.weights, self.memory)
        )
        return Cost(weights, memory, self.flops, self.pointwise)


def _bytes(tensor: Tensor) -> int:
    """Of its elements, those that only repeat others left out."""
    sizes = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
    return math.prod(sizes) * tensor.element_size()


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _tensors(nested: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(nested) if isinstance(leaf, Tensor)]


def _on_meta(module: nn.Module) -> Any:
    """The module without its numbers; they are never copied."""
    tensors = [*module.parameters(), *module.buffers()]
    empty = {id(t): torch.empty_like(t, device="meta") for t in tensors}
    for tensor in module.parameters():
        empty[id(tensor)] = nn.Parameter(empty[id(tensor)], requires_grad=False)
    return copy.deepcopy(module, empty)
