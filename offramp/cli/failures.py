"""Every way to fail as one line on stderr and an exit code.

Exit codes: 0 done · 1 failed · 2 asked for something impossible · 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys

from cyclopts import CycloptsError

from offramp.cli.harmless import harmless
from offramp.errors import OfframpError

FAILED, USAGE, INTERRUPTED = 1, 2, 130
OUT_OF_MEMORY = ("can't allocate memory", "out of memory")
"""torch's words for it, on a CPU and on a GPU."""
LONGEST = 2000
"""Characters of a line: an error may quote what a stranger's file holds."""


def report(error: BaseException) -> int:
    """Say on stderr what went wrong, in one line whatever line breaks the error has. Returns the exit code."""
    text, code = _explain(error)
    if text:
        _say(f"error: {harmless(_shortened(' '.join(text.split())))}")
    _drop_unwritten()
    return code


def open_missing_streams() -> None:
    """Give the process the standard streams that its parent closed (`>&-`): Python leaves None in their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # for as long as the process lives


def _explain(error: BaseException) -> tuple[str, int]:
    """What to say of an error ("": nothing), and its exit code."""
    match error:
        case KeyboardInterrupt():
            return "interrupted", INTERRUPTED
        case OfframpError():
            return str(error), error.exit_code
        case CycloptsError():
            return str(error), USAGE
        case BrokenPipeError():  # `offramp generate … | head`: nobody reads on
            return "", FAILED
        case OSError(strerror=str(reason), filename=None):
            return reason, FAILED
        case OSError(strerror=str(reason), filename=file):
            return f"{reason}: {os.fsdecode(file) if isinstance(file, bytes) else file}", FAILED
        case OSError():  # of a library that gives no number, only words
            return str(error) or type(error).__name__, FAILED
        case MemoryError():
            return "not enough memory", FAILED
        case RuntimeError() if any(words in str(error) for words in OUT_OF_MEMORY):
            return "not enough memory", FAILED
    told = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])  # torch adds its C++ frames below
    return f"{told} (a bug of ours: run again with --debug and report it)", FAILED


def _shortened(text: str) -> str:
    """The beginning says what was wrong, the end what would have worked."""
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}"


def _say(line: str) -> None:
    """Nobody may be listening, or the disk be full: the exit code is left to say it."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _drop_unwritten() -> None:
    """Where stdout takes no more, what is still to be written to it goes nowhere: Python would complain at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
