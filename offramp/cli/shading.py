"""Text shaded by depth on a terminal; plain where colour is not wanted or cannot be shown."""

from __future__ import annotations

from collections.abc import Iterable

from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from rich.text import Text as RichText

from offramp.cli.harmless import harmless
from offramp.cli.palette import shade

_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
}


def style(depth: int, num_blocks: int) -> Style:
    """rich's style for a depth."""
    colours = shade(depth, num_blocks)
    return Style() if colours is None else Style(color=colours.ink, bgcolor=colours.paper)


def shaded(pieces: Iterable[tuple[str, int]], num_blocks: int) -> RichText:
    """(text, depth) pairs as one rich text."""
    text = RichText()
    for piece, depth in pieces:
        text.append(harmless(piece), style(depth, num_blocks))
    return text


def painted(piece: str, depth: int, num_blocks: int, console: Console) -> str:
    """The piece as `console`'s terminal shows it shaded, for writing at once; unchanged where it is none.

    Line by line: a background must not run on behind a line break.
    """
    if not console.is_terminal:
        return piece
    piece = harmless(piece)
    system = None if console.no_color else _SYSTEMS.get(console.color_system or "")
    if system is None:
        return piece
    lines = piece.split("\n")
    return "\n".join(
        style(depth, num_blocks).render(line, color_system=system) if line else "" for line in lines
    )


def legend(depths: Iterable[int], num_blocks: int) -> RichText:
    """`left after block 4 8 of 16`, each number in its colour."""
    text = RichText("left after block ")
    for depth in depths:
        text.append(f" {depth} ", style(depth, num_blocks)).append(" ")
    return text.append(f"of {num_blocks}; plain went all the way")
