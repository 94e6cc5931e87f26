"""Ctrl-C during training, or a cluster's notice to leave: finish the step, then stop in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

NOTICES = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Interrupt:
    """Whether the user has asked to stop."""

    requested: bool = False


@contextmanager
def stop_on_interrupt() -> Iterator[Interrupt]:
    """Within the block the first Ctrl-C or SIGTERM is only noted; a second one interrupts at once, as always.

    An exception in the middle of a step would leave some parameters updated and others not.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield interrupt
        return
    former = {number: signal.getsignal(number) for number in NOTICES}

    def note(number: int, frame: FrameType | None) -> None:
        interrupt.requested = True
        signal.signal(number, former[signal.Signals(number)])

    for number in NOTICES:
        signal.signal(number, note)
    try:
        yield interrupt
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
