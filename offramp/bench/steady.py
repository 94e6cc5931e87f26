"""Rounds in which full depth's text does not loop: drafts of a loop are always right, and say little of others."""

from __future__ import annotations

from collections.abc import Sequence

from offramp.bench.contender import Turn
from offramp.evaluation.degeneration import looping


def steady_rounds(full: Sequence[Turn]) -> list[int]:
    """The numbers of those rounds."""
    return [number for number, turn in enumerate(full) if not any(map(looping, turn.tokens))]
