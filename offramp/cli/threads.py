"""How many threads a model on the CPU gets, of torch's and of the kernels' alike."""

from __future__ import annotations

import sys

import torch

from offramp.models.base import Model
from offramp.native.library import find, why_not
from offramp.native.threads import default_threads, threads_said

SMALL = 50_000_000
"""Parameters below which a second thread costs more than it gives: a token's matrices are too short to share."""


def use_threads(model: Model, threads: int | None = None) -> int:
    """Fix the threads of a model that generates: `threads`, else OFFRAMP_THREADS, else one for a small model, else
    what `default_threads` finds. A line on stderr says where a model on the CPU has to do without kernels.

    Raises UsageError when OFFRAMP_THREADS is no count, or OFFRAMP_KERNELS nothing that this machine can run.
    """
    size = sum(weight.numel() for weight in model.parameters())
    count = threads or threads_said() or (1 if size < SMALL else default_threads())
    fix_threads(count)
    if next(model.parameters()).device.type == "cpu" and (reason := why_not()):
        print(reason, file=sys.stderr, flush=True)
    return count


def fix_threads(threads: int | None, otherwise: int | None = None) -> None:
    """The same without a model: `threads`, else OFFRAMP_THREADS, else `otherwise`; None leaves them as they are."""
    count = threads or threads_said() or otherwise
    if count is None:
        return
    torch.set_num_threads(count)
    if library := find():
        library.threads = count
