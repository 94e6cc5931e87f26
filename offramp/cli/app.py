"""The command `offramp`: finds the verbs, runs one, turns every way to fail into one line and an exit code.

Verbs import torch and all that needs it inside their function: `offramp --help` reads every verb's docstring, and must
answer at once. Elsewhere imports are late where a library takes long and few commands need it.

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
from offramp.cli.signals import hear_endings, ignore_endings
from offramp.registry import names

VERBS = "offramp.cli.verbs"


def build(argv: Sequence[str]) -> App:
    """The app with every verb of `verbs/`. Where argv names none all are read: the help shows their first lines."""
    app = App(
        name="offramp",
        help="Early exits for decoder-only Transformers and Mamba language models.",
        version=__version__,
        default_parameter=Parameter(negative=()),  # no --empty-… and --no-… twins
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    verbs = names(VERBS)
    for verb in verbs:
        app.command(f"{VERBS}.{verb}:{verb}", name=verb)
    if set(verbs).isdisjoint(argv):
        for verb in verbs:
            app[verb]
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. With --debug (or OFFRAMP_DEBUG) errors are raised instead.

    argv: None is the process's own: then it also ends as `signals` says.
    """
    open_missing_streams()
    if argv is None:
        hear_endings()
    ended = _run(sys.argv[1:] if argv is None else argv)
    if argv is None:
        ignore_endings()
    return ended if isinstance(ended, int) else report(ended)


def _run(argv: Sequence[str]) -> int | BaseException:
    """The command's exit code, or what it failed with."""
    app = build(argv)
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
        return error
    except Exception as error:
        if debug and not isinstance(error, BrokenPipeError):
            raise
        return error
