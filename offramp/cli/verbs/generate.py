"""`offramp generate`: text from a model, every token shaded by the depth it was chosen at."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from offramp.cli.options import Choosing, Leaving, Reply, Where, prompt_from


def generate(
    model: str,
    prompt: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    reply: Reply | None = None,
    leaving: Leaving | None = None,
    choosing: Choosing | None = None,
    where: Where | None = None,
) -> None:
    """Generate text, each token shaded by how deep it went.

    Parameters
    ----------
    model
        A checkpoint folder or a Hugging Face hub id.
    prompt
        Where it is - or missing, stdin.
    """
    written = prompt_from(prompt)
    from offramp.cli.generation import run

    run(model, written, reply or Reply(), leaving or Leaving(), choosing or Choosing(), where or Where())
