"""A run's losses in the experiment tracker of the user's choice, by name: tensorboard, trackio, wandb, ...

accelerate knows how to speak to each of them; none is needed to train.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.tracking import (  # type: ignore[import-untyped]
    LOGGER_TYPE_TO_CLASS,
    GeneralTracker,
    get_available_trackers,
)

from offramp.errors import UnknownName, UsageError
from offramp.registry import unknown
from offramp.training.progress import Callback, Progress

PROJECT = "offramp"


@contextmanager
def tracked(
    name: str, folder: Path, settings: Mapping[str, Any], callback: Callback | None = None
) -> Iterator[Callback]:
    """Yields a callback that sends a run's progress to tracker `name`, and to `callback` too.

    folder: for trackers that keep files, as tensorboard does in folder/offramp.   settings: noted with the run.
    Raises UsageError for a tracker that does not exist or is not installed.
    """
    tracker = _start(name, folder)
    tracker.store_init_configuration(_flat(settings))

    def report(progress: Progress) -> None:
        tracker.log(_values(progress), step=progress.step)
        if callback is not None:
            callback(progress)

    try:
        yield report
    finally:
        tracker.finish()


def _start(name: str, folder: Path) -> GeneralTracker:
    kind = LOGGER_TYPE_TO_CLASS.get(name)
    if kind is None:
        raise UnknownName(unknown("tracker", name, sorted(LOGGER_TYPE_TO_CLASS)))
    if name not in {str(found) for found in get_available_trackers()}:
        raise UsageError(f"tracking with {name} needs a package that is not installed: pip install {name}")
    tracker = kind(PROJECT, str(folder)) if kind.requires_logging_directory else kind(PROJECT)
    tracker.start()
    return tracker


def _values(progress: Progress) -> dict[str, float]:
    """What is drawn over the steps."""
    losses = {f"loss/{name}": value for name, value in progress.losses.items()}
    return {"loss": progress.loss, **losses, "tokens_per_second": progress.tokens_per_second}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Nested names joined by dots; trackers take numbers and text only."""
    flat: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return flat
