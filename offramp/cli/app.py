"""The command `offramp`: finds the verbs, runs one, turns every way to fail into one line and an exit code.

Verbs import torch and all that needs it inside their function. It is the one place of the package where
imports are late: `offramp --help` reads every verb's docstring, and must answer at once.

`failures.py` has the exit codes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, Parameter

from offramp import __version__
from offramp.cli.failures import open_missing_streams, report
from offramp.registry import names

VERBS = "offramp.cli.verbs"


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
    """Run the command line and return its exit code. With --debug (or OFFRAMP_DEBUG) errors are raised instead."""
    open_missing_streams()
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
    except KeyboardInterrupt as error:
        return report(error)
    except Exception as error:
        if debug and not isinstance(error, BrokenPipeError):
            raise
        return report(error)
