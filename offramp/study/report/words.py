"""Text as it stands in a page: escaped, and nothing in it that is not seen."""

from __future__ import annotations

from html import escape


def plain(text: str) -> str:
    """For between tags and inside quoted attributes. What a reader would not see, or what would turn the page's text
    around, is written as its number."""
    return escape("".join(char if _shows(char) else f"\\u{ord(char):04x}" for char in text), quote=True)


def _shows(char: str) -> bool:
    return char in "\n\t" or char.isprintable()
