"""How many slots fit: what one takes, and what is free.

Everything a slot needs is allocated once, when the engine is made: keys and values, SSM states and rings of every
block, gate and bridge, and the pending hidden states of every segment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
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


def slots_within(model: Model, exits: Sequence[Exit], max_len: int, budget: int | None) -> int:
    """As many slots of `max_len` tokens as fit `budget` bytes (None: half of what is free), at most MOST.

    Raises CapacityError where not one fits.
    """
    each = slot_bytes(model, exits, max_len)
    room = int(SHARE * free_bytes(_device(model))) if budget is None else budget
    if each > room:
        raise CapacityError(
            f"a slot of {max_len} tokens takes {each:,} bytes and {room:,} may be used. Give the engine a smaller "
            "max_len or more memory."
        )
    return min(MOST, room // each)


def check_fit(model: Model, exits: Sequence[Exit], max_len: int, slots: int, budget: int) -> None:
    """Raises CapacityError where so many slots take more than `budget` bytes."""
    each = slot_bytes(model, exits, max_len)
    if slots * each > budget:
        raise CapacityError(
            f"{slots} slots of {max_len} tokens take {slots * each:,} bytes, {each:,} each; the budget is {budget:,}. "
            f"{budget // each} slots would fit; or give a smaller max_len or more memory."
        )


def slot_bytes(model: Model, exits: Sequence[Exit], max_len: int) -> int:
    """What one slot takes. Modules that are made alike take the same, so one of each kind is asked."""
    modules = [cast(Block, block) for block in model.blocks]
    mixers = [block.mixer for block in modules]
    mixers += [part.mixer for exit in exits for part in (exit.gate, exit.bridge)]
    known: dict[str, int] = {}
    for mixer in mixers:
        kind = likeness(mixer)
        if kind not in known:
            known[kind] = _state_bytes(mixer, max_len, 2) - _state_bytes(mixer, max_len, 1)
    embedded_1D = model.embed(torch.zeros(1, dtype=torch.long, device=_device(model)))
    rings = (len(exits) + 1) * RUN_LIMIT * embedded_1D.nbytes
    return rings + sum(known[likeness(mixer)] for mixer in mixers)


def _state_bytes(mixer: Mixer, max_len: int, slots: int) -> int:
    return sum(value.nbytes for value in _tensors(vars(mixer.init_state(slots, max_len)).values()))


def _tensors(values: Iterable[object]) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor)]


def _device(model: Model) -> torch.device:
    return next(model.parameters()).device


def free_bytes(device: torch.device) -> int:
    """Memory that is free on the device; of a CPU also within the control group that this process lives in."""
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
    except OSError:
        return 1 << 62
    return 1 << 62 if most == "max" else max(0, int(most) - int(used))
