"""Where exits sit."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from fractions import Fraction

from offramp.errors import UsageError
from offramp.exits.checks import MOST_EXITS, is_count

DEPTHS = (Fraction(1, 4), Fraction(1, 2), Fraction(5, 8), Fraction(3, 4), Fraction(7, 8))
"""The paper's four late exits, and one at a quarter, where drafting pays."""


def default_positions(num_blocks: int) -> tuple[int, ...]:
    """The numbers of blocks after which exits sit: DEPTHS of the stack, rounded down, unique, inside it."""
    after = {max(1, int(num_blocks * depth)) for depth in DEPTHS}
    return tuple(sorted(position for position in after if position < num_blocks))


def check_positions(after: Sequence[int], num_blocks: int | None = None) -> None:
    """Raises UsageError unless positions ascend without repetition and lie inside a stack of `num_blocks`.

    There can be MOST_EXITS, whatever the stack.
    """
    wanted, got = "exits need block numbers in ascending order, each once, from 1", reprlib.repr(after)
    if isinstance(after, list | tuple) and len(after) > MOST_EXITS:
        raise UsageError(f"{wanted}; got {len(after):,} of them, and there can be {MOST_EXITS:,}")
    if not isinstance(after, list | tuple) or not all(is_count(position) for position in after):
        raise UsageError(f"{wanted}; got {got}")
    if not after or list(after) != sorted(set(after)):
        raise UsageError(f"{wanted}; got {got}")
    if num_blocks is not None and after[-1] >= num_blocks:
        raise UsageError(f"{wanted} to {num_blocks - 1}, for a model of {num_blocks}; got {got}")
