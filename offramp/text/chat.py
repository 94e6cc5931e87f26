"""Chat templates: a conversation -> the prompt a checkpoint was trained on.

A template is a program that came with somebody's checkpoint, so it runs in jinja2's sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from offramp.errors import UsageError

Message = Mapping[str, Any]
"""One turn of a chat: `role`, `content`, and whatever else the template reads."""


def render(template: str, messages: Sequence[Message], special_tokens: Mapping[str, str]) -> str:
    """The prompt, open for the assistant's turn. Raises UsageError with the template's own complaint."""
    try:
        compiled = _environment().from_string(template)
        return compiled.render(messages=messages, add_generation_prompt=True, **special_tokens)
    except TemplateError as error:
        raise UsageError(f"the chat template does not accept these messages: {error}") from error


def _environment() -> ImmutableSandboxedEnvironment:
    """The names that chat templates expect beside their messages."""

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def strftime_now(form: str) -> str:
        return datetime.now().strftime(form)

    def tojson(value: object, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=False, **options)  # jinja2's own escapes for HTML

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    environment.filters["tojson"] = tojson
    return environment
