"""Documents cut into windows, windows gathered into batches.

Shapes: R rows, T tokens.

A row never holds more than one document: a gate with memory begins every row knowing nothing, as it begins a
request.
"""

from __future__ import annotations

import random
from collections.abc import Sequence, Sized
from typing import TypeVar

import torch
from torch import Tensor

from offramp.data.documents import Ids
from offramp.models.base import Model

T = TypeVar("T", bound=Sized)


def cut(documents: Sequence[Ids], window: int) -> list[Ids]:
    """Each document in pieces of at most `window` ids; a last piece of one id is left out."""
    pieces = [ids[start : start + window] for ids in documents for start in range(0, len(ids), window)]
    return [piece for piece in pieces if len(piece) > 1]


def batches_of(windows: Sequence[T], tokens: int, seed: int) -> list[list[T]]:
    """Batches of windows of nearly one length, so that padding is little: one window, or at most `tokens`.

    Windows of equal length are in random order.
    """
    shuffled = list(windows)
    random.Random(seed).shuffle(shuffled)
    batches: list[list[T]] = []
    for window in sorted(shuffled, key=len):
        if batches and (len(batches[-1]) + 1) * len(window) <= tokens:
            batches[-1].append(window)
        else:
            batches.append([window])
    return batches


def pick(count: int, seed: int, step: int) -> int:
    """Which of `count` batches step `step` reads: every one once an epoch, each epoch in another order."""
    epoch, place = divmod(step, count)
    order = list(range(count))
    random.Random(f"{seed} {epoch}").shuffle(order)
    return order[place]


def padded(rows: Sequence[Ids], device: torch.device) -> Tensor:
    """Rows as one tensor `[R, T]`, filled with 0 behind their ends."""
    tokens_RT = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, ids in enumerate(rows):
        tokens_RT[row, : len(ids)] = torch.as_tensor(ids, dtype=torch.long)
    return tokens_RT.to(device)


def real(rows: Sequence[Ids], device: torch.device) -> Tensor:
    """Bool `[R, T]`: which positions of `padded(rows)` are not padding."""
    lengths_R1 = torch.tensor([[len(ids)] for ids in rows])
    return (torch.arange(int(lengths_R1.max())) < lengths_R1).to(device)


def device_of(model: Model) -> torch.device:
    """Where the model's parameters are."""
    return next(model.parameters()).device
