"""Which colour and marker an arm has, wherever it is drawn: a gate's kind by colour, its size by marker."""

from __future__ import annotations

from collections.abc import Iterable

from offramp.training.gate_sizes import SIZES

KINDS = ("mamba", "transformer", "mlp", "linear")


def looks(names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """By name: numbers of `style.COLOURS` and of markers."""
    return {name: _look(name, i) for i, name in enumerate(names)}


def _look(name: str, place: int) -> tuple[int, int]:
    kind, _, size = name.partition("-")
    if kind in KINDS and (not size or size in SIZES):
        return KINDS.index(kind), list(SIZES).index(size) if size else 3
    return place, place
