"""Depth as colour: bright where a token left early, dark where it went deep.

Text and background are both set, so it can be read on any terminal. The ramp is viridis (CC0), whose steps
look equally large and grow in darkness too: it works printed in grey, and for most colour-blind readers.
"""

from __future__ import annotations

from dataclasses import dataclass

_VIRIDIS = (
    (0xFD, 0xE7, 0x25),
    (0x90, 0xD7, 0x43),
    (0x35, 0xB7, 0x79),
    (0x21, 0x91, 0x8C),
    (0x31, 0x68, 0x8E),
    (0x44, 0x39, 0x83),
)


@dataclass(frozen=True)
class Shade:
    """Text colour and background, as "#rrggbb"."""

    ink: str
    paper: str


def shade(depth: int, num_blocks: int) -> Shade | None:
    """The colour of a token chosen after `depth` of `num_blocks` blocks; None (plain) at full depth."""
    if depth >= num_blocks:
        return None
    at = depth / num_blocks * (len(_VIRIDIS) - 1)
    low = min(int(at), len(_VIRIDIS) - 2)
    red, green, blue = (
        round(a + (b - a) * (at - low)) for a, b in zip(_VIRIDIS[low], _VIRIDIS[low + 1], strict=True)
    )
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 120  # ITU-R BT.601 luma
    return Shade("#000000" if bright else "#ffffff", f"#{red:02x}{green:02x}{blue:02x}")
