"""Cut a long Python source into pieces that still read as code: at definitions, else at blank lines."""

import re

LIMIT = 4096  # characters; about 1,200 tokens of code

# From the coarsest cut to the finest; each keeps the newline out, so joining with one restores the text.
_TOP_LEVEL = re.compile(r"\n(?=(?:@|def |async def |class ))")
_METHOD = re.compile(r"\n(?= {4}(?:@|def |async def |class ))")
_PARAGRAPH = re.compile(r"\n(?=\n)")
_LINE = re.compile(r"\n")
_CUTS = (_TOP_LEVEL, _METHOD, _PARAGRAPH, _LINE)


def cut_source(text: str, limit: int = LIMIT) -> list[str]:
    """Pieces of at most `limit` characters (a longer single line is dropped), each ending in one newline."""
    pieces = [piece.strip("\n") + "\n" for piece in _cut(text, limit, _CUTS)]
    return [piece for piece in pieces if piece.strip()]


def _cut(text: str, limit: int, cuts: tuple[re.Pattern[str], ...]) -> list[str]:
    if len(text) <= limit:
        return [text]
    if not cuts:
        return []
    parts = [part for whole in cuts[0].split(text) for part in _cut(whole, limit - 1, cuts[1:])]
    return _merge_neighbours(parts, limit)


def _merge_neighbours(parts: list[str], limit: int) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and len(merged[-1]) + 1 + len(part) <= limit:
            merged[-1] += "\n" + part
        else:
            merged.append(part)
    return merged
