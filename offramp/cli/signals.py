"""How a process that is a command's own ends when it is told to: as after Ctrl-C, whatever signal says so."""

from __future__ import annotations

import signal

ENDING = (signal.SIGINT, signal.SIGTERM)


def hear_endings() -> None:
    """SIGTERM interrupts as Ctrl-C does, so that temporary folders and processes go; unless the parent wants it
    ignored."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def ignore_endings() -> None:
    """The command is over: while Python ends nothing changes its exit code any more."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
