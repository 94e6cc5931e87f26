"""From a job's kind to what does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from offramp.native.library import find
from offramp.study.results import Found, Job
from offramp.study.work.clock import clock
from offramp.study.work.context import Context, Place
from offramp.study.work.free import free
from offramp.study.work.full import dropping, full
from offramp.study.work.recipe import recipe
from offramp.study.work.train import train
from offramp.study.work.tune import scores, tune

KINDS: Mapping[str, Callable[[Context], dict[str, Any]]] = {
    "clock": clock,
    "dropping": dropping,
    "free": free,
    "full": full,
    "recipe": recipe,
    "scores": scores,
    "train": train,
    "tune": tune,
}


def perform(place: Place, job: Job, key: str, needed: Mapping[str, Found]) -> Found:
    """Do the job, on the threads it has."""
    torch.set_num_threads(place.threads)
    if (library := find()) is not None:
        library.threads = place.threads
    return KINDS[job.kind](Context(place, job, key, needed))
