"""The options of `offramp bench`: who runs, on what, how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter, Token, validators

from offramp.cli.options import Floats, Integers, plugins
from offramp.cli.ranges import within

MOST_ROWS = 64


def _words(_: type[Any], tokens: Sequence[Token]) -> tuple[str, ...]:
    """A converter of "a,b", or of the option given several times."""
    parts = [part.strip() for token in tokens for part in token.value.split(",")]
    return tuple(part for part in parts if part)


Words = Annotated[tuple[str, ...] | None, Parameter(converter=_words, n_tokens=1)]
Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]


@Parameter(name="*", group=Group("The race", sort_key=5))
@dataclass(frozen=True)
class Race:
    """Who runs, on what, how often.

    Parameters
    ----------
    prompts
        A file: JSON Lines with "prompt" or "tokens" where it ends in .jsonl, else one prompt a line. [default: a few
        that come with offramp; with --random random tokens]
    prompt_tokens
        Of each prompt at most, its last ones; random prompts have as many. [default: 64 where they are random]
    max_tokens
        Of a turn, after its first. What ends a text is ignored.
    rounds
        In each every engine has one turn, in an order drawn anew.
    batch
        Also so many rows together, ours only: 1,2,4,8,16.
    temperature
        Of ours, with the same noise for all; other engines stay greedy, whose speed it is not that changes.
    seed
        Draws the orders, and random weights.
    """

    prompts: Path | None = None
    prompt_tokens: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None
    max_tokens: Count = 64
    rounds: Count = 15
    engines: Annotated[
        Words,
        Parameter(
            help="Beside full depth, which always runs, twice. Ours: "
            f"{plugins('propagation')}, each with /N for a fixed number of drafts (verify/3). Others: "
            f"{plugins('bench.peers')}. [default: all]"
        ),
    ] = None
    batch: Integers = None
    temperature: float = 0.0
    seed: int = 0

    def check(self) -> None:
        """Raises UsageError for numbers of rows that are none."""
        for rows in self.batch or ():
            within("batch", rows, 1, MOST_ROWS)


@Parameter(name="*", group=Group("Exits", sort_key=10))
@dataclass(frozen=True)
class Exits:
    """Which exits, and when a token leaves.

    Parameters
    ----------
    exits
        As for `offramp generate`. [default: the model's own; of random weights a gate of its kind, untrained]
    exits_at
        Only those after these blocks: 4,8.
    threshold
        One number, or one for each exit. [default: as the exits suggest]
    forced
        Agreement by lot, for exits that learned nothing: a draft is right with this chance, and in modes that judge
        nothing a token leaves with it.
    """

    exits: str | None = None
    exits_at: Integers = None
    policy: Annotated[str, Parameter(help=f"When a token leaves: {plugins('policies')}.")] = "gate"
    threshold: Floats = None
    forced: float | None = None

    def check(self) -> None:
        """Raises UsageError for a chance that is none."""
        if self.forced is not None:
            within("forced", self.forced, 0, 1)
