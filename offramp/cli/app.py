"""The command `offramp`: finds the verbs, runs one, turns every way to fail into one line and an exit code.

Verbs import torch and all that needs it inside their function. It is the one place of the package where
imports are late: `offramp --help` reads every verb's docstring, and must answer at once.

Exit codes: 0 done · 1 failed · 2 asked for something impossible · 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from offramp import __version__
from offramp.errors import OfframpError
from offramp.registry import names

VERBS = "offramp.cli.verbs"
USAGE, INTERRUPTED = 2, 130


def build() -> App:
    """The app with every verb of `verbs/`."""
    app = App(
        name="offramp",
        help="Early exits for decoder-only Transformers and Mamba language models.",
        version=__version__,
        default_parameter=Parameter(negative=()),  # no --empty-… and --no-… twins
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for verb in names(VERBS):
        app.command(f"{VERBS}.{verb}:{verb}", name=verb)
        app[verb]  # read it now: the help shows its first line
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    app = build()
    app.meta.suppress_keyboard_interrupt = False  # not inherited
    debug = bool(os.environ.get("OFFRAMP_DEBUG"))

    @app.meta.default
    def run(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        traceback: Annotated[bool, Parameter(name="--debug", env_var="OFFRAMP_DEBUG")] = False,
    ) -> int | None:
        """
        Parameters
        ----------
        traceback
            Show where an error came from.
        """
        nonlocal debug
        debug = traceback
        return app(tokens, exit_on_error=False, print_error=False)

    try:
        code = app.meta(argv, exit_on_error=False, print_error=False) or 0
        sys.stdout.flush()
        return code
    except (OfframpError, CycloptsError) as error:
        if debug:
            raise
        return _complain(str(error), error.exit_code if isinstance(error, OfframpError) else USAGE)
    except BrokenPipeError:
        return _reader_left()
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)


def _complain(text: str, code: int) -> int:
    """One line on stderr, whatever line breaks the text has."""
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return code


def _reader_left() -> int:
    """`offramp generate … | head`: nobody reads on. Without another stdout Python would complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
