"""`offramp generate`: text from a model, every token shaded by the depth it was chosen at."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from offramp.cli.options import Choosing, Leaving, Many, Reply, Where, prompt_from


def generate(
    model: str,
    prompt: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    reply: Reply | None = None,
    many: Many | None = None,
    leaving: Leaving | None = None,
    choosing: Choosing | None = None,
    where: Where | None = None,
) -> int:
    """Generate text, each token shaded by how deep it went; or replies to a file of prompts.

    Parameters
    ----------
    model
        A checkpoint folder or a Hugging Face hub id.
    prompt
        Where it is - or missing, stdin.
    """
    asked, options = many or Many(), (leaving or Leaving(), choosing or Choosing(), where or Where())
    reply = reply or Reply()
    asked.check(prompt, reply.json)
    if asked.input is not None:
        from offramp.cli import bulk

        return bulk.run(model, asked, reply, *options)
    written = prompt_from(prompt)
    from offramp.cli import generation

    generation.run(model, written, reply, *options)
    return 0
