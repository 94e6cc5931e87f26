"""Several processes that train as one: each takes a part of every batch's rows, their gradients are added up.

`accelerate launch -m offramp train ...` or `torchrun -m offramp train ...` start them; a single process needs
neither, and sends nothing. Losses and gradients are sums of parts of the whole batch's mean: a mean of the
workers' means would let the tokens of a worker with few of them count for more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed
from accelerate.state import PartialState  # type: ignore[import-untyped]
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """This process among `count` equal ones. Only the main one, rank 0, writes files and talks to people."""

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.count == 1

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        """This worker's part, perhaps none. Every row is some worker's, once."""
        return rows[self.rank :: self.count]

    def sum(self, values: Tensor) -> Tensor:
        """Of all workers' tensors of one shape; every worker gets the same. Alone: the tensor itself."""
        if self.alone:
            return values
        total = values.detach().to(self.device, copy=True)
        torch.distributed.all_reduce(total)
        return total.to(values.device)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Give every worker the sum of all workers' gradients. Whoever has none adds nothing.

        A parameter that has no gradient anywhere keeps none: an optimizer passes it over, as in one process.
        """
        if self.alone:
            return
        learning = [p for p in parameters if p.requires_grad]
        flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
        there_P = torch.tensor([float(p.grad is not None) for p in learning], device=learning[0].device)
        *sums, there_P = self.sum(torch.cat([*(g.flatten() for g in flat), there_P])).split(
            [*(p.numel() for p in learning), len(learning)]
        )
        for parameter, gradient, there in zip(learning, sums, there_P.tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter).to(parameter.dtype) if there else None

    def barrier(self) -> None:
        """Wait until all workers are here."""
        self.sum(torch.zeros(1, device=self.device))


ALONE = Workers()


def workers(device: torch.device | str = "cpu") -> Workers:
    """The workers that a launcher started, as its environment says; `ALONE` without one.

    device: the kind that is trained on. On GPUs every worker gets its own: call this before anything is put on
    "cuda", which means the worker's own from then on.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1" or "RANK" not in os.environ:
        return ALONE
    state = PartialState(cpu=torch.device(device).type == "cpu")
    return Workers(state.process_index, state.num_processes, state.device)
