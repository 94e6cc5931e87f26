"""Text of a model or a checkpoint made safe to show: it must not move a terminal's cursor or set its title."""

from __future__ import annotations

_CONTROL = (*range(9), *range(11, 32), 127, *range(128, 160))
_SURROGATES = range(0xD800, 0xE000)  # no stream can write them
_REPLACED = {code: "\ufffd" for code in (*_CONTROL, *_SURROGATES)}


def harmless(text: str) -> str:
    """The text with U+FFFD for every control character but tab and line feed, and for every lone surrogate."""
    return text.translate(_REPLACED)
