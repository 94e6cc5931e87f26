"""Short stories with follow-up questions, shaped like CoQA: the answers are to be read off the story.

What helps is a rule, copying from the context, and never knowledge: people, places and things are drawn
afresh for every story, and the tests use names that no training story has.
"""

import random
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from offramp.zoo.rows import Row, Segment
from offramp.zoo.story_questions import Turn, ask
from offramp.zoo.story_world import Person, Told, tell

Level = Literal["easy", "medium", "full"]


@dataclass(frozen=True)
class Cast:
    """Who and what may occur in a story."""

    names: Sequence[str]
    objects: Sequence[str]
    places: Sequence[str]
    adjectives: Sequence[str]


@dataclass(frozen=True)
class Dial:
    """How hard a level is."""

    people: tuple[int, ...]
    things: tuple[int, ...]  # in all, over all people
    events: tuple[int, ...]  # somebody moves or gives a thing away
    turns: tuple[int, ...]
    adjective_share: float


DIALS: dict[Level, Dial] = {
    "easy": Dial(people=(1,), things=(0, 1), events=(0,), turns=(1, 2), adjective_share=0.0),
    "medium": Dial(people=(2,), things=(1, 2), events=(0,), turns=(2, 3), adjective_share=0.2),
    "full": Dial(people=(2, 2, 3), things=(1, 2, 3), events=(0, 1, 1), turns=(2, 3, 4), adjective_share=0.4),
}


@dataclass(frozen=True)
class Story:
    """A story and its turns of questions, in order."""

    text: str
    turns: tuple[Turn, ...]

    def prompt(self, turn: int) -> str:
        """The story, the turns before with their answers, and this turn's question up to its answer."""
        before = "".join(f"Q: {t.question}\nA: {t.answer}\n" for t in self.turns[:turn])
        return f"{self.text}\n{before}Q: {self.turns[turn].question}\nA:"

    def row(self) -> Row:
        """The story as a training row."""
        segments = [Segment(f"{self.text}\n")]
        for turn in self.turns:
            segments += [
                Segment(f"Q: {turn.question}\nA:"),
                Segment(f" {turn.answer}", is_answer=True),
                Segment("\n"),
            ]
        return segments


def load_things(held_out: int = 8) -> tuple[Cast, Cast]:
    """Two casts without people: the things and places of training stories, and those only tests know."""
    data = tomllib.loads(resources.files("offramp.zoo").joinpath("stories.toml").read_text())
    seen = Cast((), data["objects"][:-held_out], data["places"][:-held_out], data["adjectives"])
    unseen = Cast((), data["objects"][-held_out:], data["places"][-held_out:], data["adjectives"])
    return seen, unseen


def stories(
    cast: Cast, seed: int | str, levels: Sequence[Level] = ("easy", "medium", "full")
) -> Iterator[Story]:
    """Stories without end, each of a level drawn from `levels` (name one twice to have it more often)."""
    rng = random.Random(f"stories {seed}")
    while True:
        yield make_story(cast, DIALS[rng.choice(levels)], rng)


def make_story(cast: Cast, dial: Dial, rng: random.Random) -> Story:
    """One story of the given difficulty."""
    told = _make_told(cast, dial, rng)
    return Story(" ".join(told.sentences), tuple(ask(told, rng.choice(dial.turns), rng)))


def _make_told(cast: Cast, dial: Dial, rng: random.Random) -> Told:
    count = rng.choice(dial.people)
    places = rng.sample(cast.places, count + 1)  # nobody shares a place at first, and one is free to go to
    people = [Person(n, p) for n, p in zip(rng.sample(cast.names, count), places, strict=False)]
    for thing in rng.sample(cast.objects, rng.choice(dial.things)):
        if rng.random() < dial.adjective_share:
            thing = f"{rng.choice(cast.adjectives)} {thing}"
        rng.choice(people).things.append(thing)
    return tell(people, places[-1], rng.choice(dial.events), rng)
