"""Invented names that can be pronounced, in three pools that share no name.

All pools come from one shuffled list, so a held-out name is cut into tokens just as a trained one is.
"""

import random
from collections.abc import Set
from dataclasses import dataclass

_ONSETS = tuple("b d f g h k l m n p r s t v z br dr gr kr tr fl pl sl th sh".split())
_VOWELS = tuple("a e i o u a e i o u ai ea".split())
_CODAS = ("", "", "n", "r", "l", "s", "m", "k", "th", "nd", "x")


@dataclass(frozen=True)
class NamePools:
    """Names of facts' entities, of people in training stories, and of people only test stories know."""

    entities: tuple[str, ...]
    held_out: tuple[str, ...]
    training: tuple[str, ...]


def invent(rng: random.Random) -> str:
    """One name of two or three syllables."""
    syllables = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.choice((2, 2, 3)))]
    return ("".join(syllables) + rng.choice(_CODAS)).capitalize()


def make_pools(
    seed: int, entities: int = 160, held_out: int = 400, training: int = 4000, avoid: Set[str] = frozenset()
) -> NamePools:
    """Distinct names, none of them (in any case) among the words to avoid."""
    rng = random.Random(f"names {seed}")
    names: dict[str, None] = {}
    while len(names) < entities + held_out + training:
        name = invent(rng)
        if name.lower() not in avoid:
            names[name] = None
    drawn = tuple(names)
    return NamePools(drawn[:entities], drawn[entities : entities + held_out], drawn[entities + held_out :])
