"""How many threads torch may use for a model on the CPU."""

from __future__ import annotations

import os

import torch

from offramp.errors import UsageError
from offramp.models.base import Model

SMALL = 50_000_000
"""Parameters below which a second thread costs more than it gives: a token's matrices are too short to share."""


def use_threads(model: Model) -> int:
    """Set torch's threads: OFFRAMP_THREADS, else one for a small model, else the cores we may use less one.

    All cores are never the default: threads that wait by spinning beside another busy process slow everything.
    Raises UsageError when OFFRAMP_THREADS is no count.
    """
    said = os.environ.get("OFFRAMP_THREADS", "")
    if said and not (said.isdecimal() and int(said) > 0):
        raise UsageError(f"OFFRAMP_THREADS is {said!r}; it must be a count of at least 1.")
    size = sum(weight.numel() for weight in model.parameters())
    threads = int(said) if said else 1 if size < SMALL else max(1, _cores() - 1)
    torch.set_num_threads(threads)
    return threads


def _cores() -> int:
    """The cores this process may use; not every system can tell them from all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
