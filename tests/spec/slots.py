"""Rows that share slots: every state is stored once for all slots, and a slot is never cleared (design 2)."""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from random import Random

import torch
from torch import Tensor

from .mixers import Storage, fresh
from .model import Model
from .request import Request
from .row import Row
from .schedule import After, nothing, one_round

MakeRow = Callable[[Model, Request, Storage], Row]


class Pool:
    """Tensors [S, ...], made when a state first asks. All rows of one model ask in the same order."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.tensors: list[Tensor] = []

    def storage(self, slot: int) -> Storage:
        """The slot's part of each tensor, with whatever its former owner left there."""
        order = count()

        def tensor(*shape: int) -> Tensor:
            index = next(order)
            if index == len(self.tensors):
                self.tensors.append(fresh(self.slots, *shape))
            assert self.tensors[index].shape[1:] == shape, "rows of one pool have one model and one context"
            return self.tensors[index][slot]

        return tensor

    def poison(self, slot: int, value: float = torch.nan) -> None:
        """Overwrite a slot nobody owns: who reads it anyway will show it."""
        for tensor in self.tensors:
            tensor[slot] = value


def serve_in_slots(
    model: Model,
    requests: Sequence[Request],
    pool: Pool,
    rng: Random,
    make_row: MakeRow = Row,
    after: After = nothing,
    released: Callable[[int], None] = nothing,
) -> list[Row]:
    """All requests, one row a slot; `released` is told each slot that falls free. Rows as requested."""
    waiting = deque(range(len(requests)))
    owner: dict[int, Row] = {}
    rows: dict[int, Row] = {}
    while waiting or owner:
        for slot in range(pool.slots):
            if slot not in owner and waiting:
                index = waiting.popleft()
                rows[index] = owner[slot] = make_row(model, requests[index], pool.storage(slot))
        one_round(list(owner.values()), rng, after)
        for slot in [slot for slot, row in owner.items() if row.ended is not None]:
            del owner[slot]
            released(slot)
    return [rows[index] for index in range(len(requests))]
