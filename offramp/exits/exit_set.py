"""A checkpoint's exits: built from a config, kept in order of depth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from offramp.errors import UsageError
from offramp.exits.base import Bridge, BridgeConfig, Exit, ExitConfig, Gate
from offramp.exits.positions import check_positions
from offramp.exits.short_list import ShortList
from offramp.registry import find


class ExitSet(nn.Module):
    """`exits[i]` sits after `config.after[i]` blocks, ascending."""

    def __init__(self, config: ExitConfig, exits: Sequence[Exit]) -> None:
        super().__init__()
        assert [item.after for item in exits] == list(config.after), "exits and config disagree"
        self.config, self.exits = config, nn.ModuleList(exits)

    def __iter__(self) -> Iterator[Exit]:
        return iter(self.exits)  # type: ignore[arg-type]  # a ModuleList does not say what it holds

    def __len__(self) -> int:
        return len(self.exits)

    @property
    def after(self) -> tuple[int, ...]:
        """The numbers of blocks the exits sit after."""
        return self.config.after

    @property
    def bridges_learn(self) -> bool:
        """Whether the bridges have weights."""
        return any(True for item in self for _ in item.bridge.parameters())

    def drafted(self, logits: Tensor) -> Tensor:
        """See `Exit.drafted`: the exits of a set have one list."""
        first: Exit = next(iter(self))
        return first.drafted(logits)

    def without_bridges(self) -> ExitSet:
        """The same gates, sharing their weights, each with bridge `none`."""
        config = replace(self.config, bridge="none", bridge_config=BridgeConfig())
        none = find("offramp.exits.bridges", "none", Bridge)
        return ExitSet(config, [Exit(item.after, item.gate, none(config), item.short_list) for item in self])

    def drafting_from(self, ids: Sequence[int]) -> ExitSet:
        """The same exits, sharing their weights, whose drafts are chosen among these tokens; none given: among all.

        What the gates have learnt to predict stays what it was.
        """
        device = next((weight.device for weight in self.parameters()), torch.device("cpu"))
        ids_K = torch.tensor(sorted(set(ids)), dtype=torch.int32, device=device)
        config = replace(self.config, draft_vocabulary=len(ids_K))
        return ExitSet(
            config, [Exit(item.after, item.gate, item.bridge, _short_list(ids_K)) for item in self]
        )

    def select(self, after: Sequence[int]) -> ExitSet:
        """Only the exits after these blocks, sharing their weights with this set.

        Raises UsageError naming what there is, when one is missing.
        """
        check_positions(after)
        missing = sorted(set(after) - set(self.after))
        if missing:
            raise UsageError(f"no exits after blocks {missing}; these exits sit after {list(self.after)}")
        return ExitSet(replace(self.config, after=tuple(after)), [e for e in self if e.after in after])


def build_exits(config: ExitConfig, num_blocks: int | None = None, seed: int = 0) -> ExitSet:
    """Exits with fresh weights drawn from `seed`, each its own gate and bridge.

    num_blocks: of the model they are for; None skips the two checks that need it.
    Raises UnknownName for a gate, bridge or mixer that does not exist, UsageError for impossible positions, for
    settings that the bridge does not read, and for a trunk to share where the gate has none.
    """
    check_positions(config.after, num_blocks)
    gate = find("offramp.exits.gates", config.gate, Gate)
    bridge = find("offramp.exits.bridges", config.bridge, Bridge)
    if bridge.borrows_last_block and num_blocks is not None and config.after[-1] == num_blocks - 1:
        raise UsageError(
            f"an exit after block {num_blocks - 1} of {num_blocks} with bridge {config.bridge!r} saves "
            "nothing: the bridge runs the only block left; place it earlier or use bridge 'none'"
        )
    _check_settings(config, bridge)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ExitSet(config, [_exit(config, after, gate(config), bridge(config)) for after in config.after])


def _check_settings(config: ExitConfig, bridge: type[Bridge]) -> None:
    """Every setting of a bridge that is not the default means something to this one."""
    for item in fields(config.bridge_config):
        value = getattr(config.bridge_config, item.name)
        if value != item.default and item.name not in bridge.reads:
            known = f"it reads {' and '.join(bridge.reads)}" if bridge.reads else "it has no settings"
            raise UsageError(f"bridge {config.bridge!r} has no {item.name} to set to {value!r}: {known}")


def _short_list(ids_K: Tensor) -> ShortList | None:
    return ShortList(ids_K.clone()) if len(ids_K) else None


def _exit(config: ExitConfig, after: int, gate: Gate, bridge: Bridge) -> Exit:
    if bridge.reads_gate and not gate.mixer.remembers:
        raise UsageError(
            "this gate has no trunk that a bridge could share: it remembers nothing; share that of gate 'mamba' "
            "or 'transformer', or give the bridge its own"
        )
    # Until `drafting_from` or a file says which; no arange: where there are shapes only, it imports sympy.
    first_ids = torch.tensor(range(config.draft_vocabulary), dtype=torch.long)
    return Exit(after, gate, bridge, _short_list(first_ids))
