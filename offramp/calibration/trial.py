"""What came of one step of the path over documents."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Trial:
    """Losses, and mean depths of the tokens, of each document."""

    losses: tuple[float, ...]
    depths: tuple[float, ...]

    @property
    def depth(self) -> float:
        """Over documents, each counting alike."""
        return fmean(self.depths)
