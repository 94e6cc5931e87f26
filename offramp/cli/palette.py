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
    ink = "#000000" if _luminance(red, green, blue) > 0.179 else "#ffffff"  # where both contrast alike
    return Shade(ink, f"#{red:02x}{green:02x}{blue:02x}")


def _luminance(*rgb: int) -> float:
    """WCAG 2's relative luminance, 0 to 1."""
    parts = [part / 255 for part in rgb]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
