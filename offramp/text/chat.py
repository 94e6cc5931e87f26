"""Chat templates: a conversation -> the prompt a checkpoint was trained on.

A template is a program that came with somebody's checkpoint, so it runs in a sandbox; what that does not keep
it from, `sandbox.py` says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols

from offramp.errors import UsageError
from offramp.text.sandbox import LENGTH, Sandbox

TEMPLATE = 200_000
"""Most characters of a template; long ones have some ten thousand."""

Message = Mapping[str, Any]
"""One turn of a chat: `role`, `content`, and whatever else the template reads."""


def render(template: str, messages: Sequence[Message], special_tokens: Mapping[str, str]) -> str:
    """The prompt, open for the assistant's turn.

    Raises UsageError with the template's own complaint, or with whatever else went wrong in it.
    """
    if len(template) > TEMPLATE:
        raise UsageError(f"the chat template has {len(template):,} characters; the most is {TEMPLATE:,}.")
    try:
        compiled = _environment().from_string(template)
        return _joined(compiled.generate(messages=messages, add_generation_prompt=True, **special_tokens))
    except TemplateError as error:
        raise UsageError(f"the chat template does not accept these messages: {error}") from error
    except Exception as error:  # it is a program: it can fail in every way there is
        kind = type(error).__name__
        raise UsageError(f"the chat template fails on these messages: {kind}: {error}") from error


def _joined(pieces: Iterable[str]) -> str:
    """The pieces as one text. Raises SecurityError as soon as they are too many."""
    written, length = [], 0
    for piece in pieces:
        written.append(piece)
        length += len(piece)
        if length > LENGTH:
            raise SecurityError(f"it writes more than {LENGTH:,} characters")
    return "".join(written)


def _environment() -> Sandbox:
    """The names that chat templates expect beside their messages."""

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def strftime_now(form: str) -> str:
        return datetime.now().strftime(form)

    def tojson(value: object, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=False, **options)  # jinja2's own escapes for HTML

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    environment.filters["tojson"] = tojson
    return environment
