"""How many slots fit: what one takes, and what is free.

Everything a slot needs is allocated once, when the engine is made: keys and values, SSM states and rings of every
block, gate and bridge, and the pending hidden states of every segment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from offramp.errors import CapacityError
from offramp.exits.base import Exit
from offramp.mixers.base import RUN_LIMIT, Mixer
from offramp.models.base import Block, Model
from offramp.models.likeness import likeness

SHARE = 0.5
"""Of what is free, when nobody says how much slots may take: the rest is for passes, prompts and other programs."""
MOST = 64
"""Slots when nobody says how many: more rows than a CPU can serve."""


@dataclass(frozen=True)
class Need:
    """Bytes: of each slot, and of the tables that all slots share (rotary positions)."""

    each: int
    shared: int

    def slots(self, room: int) -> int:
        """How many fit."""
        return max(0, room - self.shared) // self.each


def slots_within(model: Model, exits: Sequence[Exit], max_len: int, budget: int | None) -> int:
    """As many slots of `max_len` tokens as fit `budget` bytes (None: half of what is free), at most MOST.

    Raises CapacityError where not one fits.
    """
    room = int(SHARE * free_bytes(_device(model))) if budget is None else budget
    need = memory_needed(model, exits, max_len)
    if need.slots(room) == 0:
        raise CapacityError(
            f"a slot of {max_len} tokens takes {need.each:,} bytes, and tables {need.shared:,}; {room:,} may be used. "
            "Give the engine a smaller max_len or more memory."
        )
    return min(MOST, need.slots(room))


def check_fit(model: Model, exits: Sequence[Exit], max_len: int, slots: int, budget: int) -> None:
    """Raises CapacityError where so many slots take more than `budget` bytes."""
    need = memory_needed(model, exits, max_len)
    if slots > need.slots(budget):
        raise CapacityError(
            f"{slots} slots of {max_len} tokens take {slots * need.each + need.shared:,} bytes, {need.each:,} each; "
            f"the budget is {budget:,}. {need.slots(budget)} slots would fit; or give a smaller max_len or more memory."
        )


def memory_needed(model: Model, exits: Sequence[Exit], max_len: int) -> Need:
    """What slots take. Modules that are made alike take the same, so one of each kind is asked."""
    mixers = [cast(Block, block).mixer for block in model.blocks]
    mixers += [part.mixer for exit in exits for part in (exit.gate, exit.bridge)]
    kinds = [likeness(mixer) for mixer in mixers]
    known = {kind: _need_of(mixer, max_len) for kind, mixer in dict(zip(kinds, mixers, strict=True)).items()}
    needs = [known[kind] for kind in kinds]
    embedded_1D = model.embed(torch.zeros(1, dtype=torch.long, device=_device(model)))
    rings = (len(exits) + 1) * RUN_LIMIT * embedded_1D.nbytes
    return Need(rings + sum(need.each for need in needs), sum(need.shared for need in needs))


def state_bytes(mixer: Mixer, max_len: int) -> int:
    """What a mixer remembers of one more sequence."""
    return _need_of(mixer, max_len).each


def _need_of(mixer: Mixer, max_len: int) -> Need:
    one, two = (_bytes(vars(mixer.init_state(slots, max_len)).values()) for slots in (1, 2))
    return Need(two - one, 2 * one - two)


def _bytes(values: Iterable[object]) -> int:
    return sum(value.nbytes for value in values if isinstance(value, Tensor))


def _device(model: Model) -> torch.device:
    return next(model.parameters()).device


def free_bytes(device: torch.device) -> int:
    """Memory that is free on the device; of a CPU also within its control group, where the system shows one (v2)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(_machine_free(), _group_free())


def _machine_free() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not a Linux: half of what there is
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return int(dict(line.split(":") for line in lines)["MemAvailable"].split()[0]) * 1024


def _group_free() -> int:
    group = Path("/sys/fs/cgroup")
    try:
        most, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return 1 << 62
    if most == "max":
        return 1 << 62
    return max(0, int(most) - int(used) + int(stat.get("inactive_file", 0)))  # files' pages are given back
