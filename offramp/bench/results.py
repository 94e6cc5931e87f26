"""What rounds come to: one line for each engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from offramp.bench.bound import Bound
from offramp.bench.contender import Turn
from offramp.bench.ours import AGAIN, FULL
from offramp.bench.ratio import Ratio, not_slower, ratio
from offramp.bench.rounds import Course
from offramp.bench.steady import steady_rounds


@dataclass(frozen=True)
class Alike:
    """How far texts equal our full depth's. rounds: the share of rounds in which all tokens do. until: the median
    number of equal tokens before the first that differs, of so many compared."""

    rounds: float
    until: float
    compared: float


@dataclass(frozen=True)
class Line:
    """An engine's medians over rounds.

    rate: tokens a second after the first; rates: by round. ratio: of that to our full depth; steady: over rounds in
    which full depth's text does not loop, where it does in others. first: seconds until the first token;
    first_ratio: full depth's over them. share: of the read bandwidth. memory: bytes beyond the libraries. reached: of
    the bound, in steady rounds where there are any. out: why it is not run; then there is nothing else.
    """

    engine: str
    about: str = ""
    rate: float | None = None
    rates: tuple[float, ...] = ()
    ratio: Ratio | None = None
    steady: Ratio | None = None
    not_slower: bool | None = None
    share: float | None = None
    first: float | None = None
    first_ratio: Ratio | None = None
    memory: int | None = None
    alike: Alike | None = None
    bound: Bound | None = None
    reached: float | None = None
    out: str = ""


def lines(courses: Mapping[str, Course], strangers: Collection[str] = ()) -> list[Line]:
    """In the order of the courses. Without our full depth nothing can be compared, and rates stand alone.

    strangers: engines that were asked for another text, so that theirs is not compared.
    """
    full = courses[FULL].turns if FULL in courses else []
    control = _ratio(courses[AGAIN].turns, full) if AGAIN in courses else None
    found = [_line(course, full, control) for course in courses.values()]
    return [replace(line, alike=None) if line.engine in strangers else line for line in found]


def _line(course: Course, full: Sequence[Turn], control: Ratio | None) -> Line:
    turns, ready = course.turns, course.ready
    if course.out or not turns or ready is None:
        return Line(course.name, out=course.out or "no round was run")
    found, steady = _ratio(turns, full), _steady(turns, full)
    reached = steady or found
    shares = [turn.share for turn in turns if turn.share is not None]
    return Line(
        course.name,
        ready.about,
        rate=median(turn.rate for turn in turns),
        rates=tuple(turn.rate for turn in turns),
        ratio=found,
        steady=steady,
        not_slower=not_slower(found, control) if found and control else None,
        share=median(shares) if shares else None,
        first=median(turn.first for turn in turns),
        first_ratio=ratio([turn.first for turn in full], [turn.first for turn in turns]) if full else None,
        memory=ready.memory,
        alike=alike(turns, full) if full else None,
        bound=course.bound,
        reached=reached.value / course.bound.gain if reached and course.bound else None,
    )


def _ratio(turns: Sequence[Turn], full: Sequence[Turn]) -> Ratio | None:
    """None where one of the two is out."""
    if not turns or not full:
        return None
    return ratio([turn.rate for turn in turns], [turn.rate for turn in full])


def _steady(turns: Sequence[Turn], full: Sequence[Turn]) -> Ratio | None:
    """Over the rounds that do not loop; None where all do, or none."""
    rounds = steady_rounds(full)
    if len(rounds) == len(full):
        return None
    return _ratio([turns[i] for i in rounds], [full[i] for i in rounds])


def alike(turns: Sequence[Turn], full: Sequence[Turn]) -> Alike:
    """Texts of different lengths are compared as far as both go."""
    pairs = [
        pair
        for mine, theirs in zip(turns, full, strict=True)
        for pair in zip(mine.tokens, theirs.tokens, strict=True)
    ]
    compared = [min(len(a), len(b)) for a, b in pairs]
    until = [_equal(a, b) for a, b in pairs]
    same = [far == most for far, most in zip(until, compared, strict=True)]
    return Alike(sum(same) / len(same), median(until), median(compared))


def _equal(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens at the beginning are equal."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))
