"""Depth is readable as colour: darker is deeper, on any background."""

from __future__ import annotations

from offramp.cli.palette import shade

BLOCKS = 64


def luminance(colour: str) -> float:
    """WCAG's relative luminance of "#rrggbb"."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_deeper_is_darker() -> None:
    shades = [shade(depth, BLOCKS) for depth in range(BLOCKS)]
    papers = [luminance(found.paper) for found in shades if found]
    assert len(papers) == BLOCKS
    assert papers == sorted(papers, reverse=True)


def test_text_can_be_read_on_every_shade() -> None:
    for depth in range(BLOCKS):
        found = shade(depth, BLOCKS)
        assert found is not None
        low, high = sorted([luminance(found.ink), luminance(found.paper)])
        assert (high + 0.05) / (low + 0.05) > 4.5


def test_full_depth_is_plain() -> None:
    assert shade(BLOCKS, BLOCKS) is None
